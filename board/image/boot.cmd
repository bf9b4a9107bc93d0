# U-Boot's script: which slot is started. In: the state that RAUC and this script write (BOOT_ORDER, BOOT_A_LEFT, BOOT_B_LEFT; 4 KiB with a
# checksum, 512 KiB from the card's start, outside of every partition). Each start counts down what is left to its slot before the kernel has a
# chance to fail; a system that finds itself good sets it up again. A state that is damaged counts as none: slot A, then B.
# The bootstd of U-Boot gives devtype and devnum (mmc or virtio); scripts are compiled by mkimage (card.sh).

# Where memory begins: 0 on a Raspberry Pi, 1 GiB on QEMU's machine. What is loaded lies clear of U-Boot and of a kernel that is unpacked.
setexpr ram ${kernel_addr_r} \& 0xc0000000
setexpr state ${ram} + 0x03f00000
setexpr kernel ${ram} + 0x04000000
setexpr ramdisk ${ram} + 0x0a000000
if test -z "${fdt_addr}"; then setenv fdt_addr ${fdtcontroladdr}; fi

setenv BOOT_ORDER "A B"
setenv BOOT_A_LEFT 3
setenv BOOT_B_LEFT 3
${devtype} dev ${devnum}
if ${devtype} read ${state} 400 8; then
    if env import -c ${state} 1000 BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT; then true; else echo "fcam: no valid state"; fi
fi
echo "fcam: order ${BOOT_ORDER}, left A ${BOOT_A_LEFT}, B ${BOOT_B_LEFT}"

for slot in ${BOOT_ORDER}; do
    setenv chosen
    if test "${slot}" = "A" -a ${BOOT_A_LEFT} -gt 0; then setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1; setenv chosen 2; fi
    if test "${slot}" = "B" -a ${BOOT_B_LEFT} -gt 0; then setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1; setenv chosen 3; fi
    if test -n "${chosen}"; then
        env export -c -s 1000 ${state} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
        ${devtype} write ${state} 400 8
        if load ${devtype} ${devnum}:${chosen} ${kernel} /boot/Image; then
            if load ${devtype} ${devnum}:${chosen} ${ramdisk} /boot/initramfs.gz; then
                echo "fcam: slot ${slot}"
                setenv bootargs "rauc.slot=${slot} panic=10 quiet systemd.show_status=yes"
                booti ${kernel} ${ramdisk}:${filesize} ${fdt_addr}
            fi
        fi
        echo "fcam: slot ${slot} cannot be started"
    fi
done

# None was left: all get another chance.
echo "fcam: no slot can be started; trying again in 10 s"
setenv BOOT_ORDER "A B"
setenv BOOT_A_LEFT 3
setenv BOOT_B_LEFT 3
env export -c -s 1000 ${state} BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT
${devtype} write ${state} 400 8
sleep 10
reset
