/* A plugin for qemu-aarch64 (plugin interface 1, QEMU 7.2): counts the instructions that a program executes, by class, and prints
 * them as one line when it ends. `./dev bench arm` builds and uses it.
 *
 *   cc -O2 -shared -fPIC -o icount.so icount.c
 *   qemu-aarch64 -cpu cortex-a76 -L /usr/aarch64-linux-gnu -plugin ./icount.so -d plugin -D counts.txt PROGRAM
 *
 * Debian has no header for plugins: what is used of it is declared here. The classes are those of the Arm Architecture Reference Manual,
 * C4.1 (A64 instruction set encoding).
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_outs(const char *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum class { DOT, WIDENING, MEMORY, VECTOR, OTHER, CLASSES };
static const char *const NAMES[CLASSES] = {"dot", "widening", "memory", "vector", "other"};

/* A fixed pattern: the instructions w for which (w & mask) == value. */
struct pattern {
    uint32_t mask, value;
};

static int matches(uint32_t word, const struct pattern *patterns, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((word & patterns[i].mask) == patterns[i].value) return 1;
    return 0;
}

static const struct pattern dot[] = {
    {0x9fe0fc00, 0x0e809400}, /* SDOT, UDOT (vector) */
    {0x9fc0f400, 0x0f80e000}, /* SDOT, UDOT (by element) */
};

static const struct pattern widening[] = {
    {0x9f20fc00, 0x0e208000}, /* SMLAL, UMLAL (vector) */
    {0x9f20fc00, 0x0e20c000}, /* SMULL, UMULL (vector) */
    {0x9f00f400, 0x0f002000}, /* SMLAL, UMLAL (by element) */
    {0x9f00f400, 0x0f00a000}, /* SMULL, UMULL (by element) */
    {0x9f3ffc00, 0x0e206800}, /* SADALP, UADALP */
};

static enum class classify(uint32_t word) {
    uint32_t group = word >> 25 & 15; /* op0 of the top-level encoding */
    if (matches(word, dot, sizeof dot / sizeof *dot)) return DOT;
    if (matches(word, widening, sizeof widening / sizeof *widening)) return WIDENING;
    if ((group & 5) == 4) return MEMORY;  /* x1x0 */
    if ((group & 7) == 7) return VECTOR;  /* x111 */
    return OTHER;
}

/* What one execution of a translated block adds. Blocks are never freed: the program's code is finite, and so is its run. */
struct block {
    uint32_t counts[CLASSES];
};

static uint64_t totals[CLASSES];

static void executed(unsigned cpu, void *data) {
    const struct block *block = data;
    (void)cpu;
    for (int class = 0; class < CLASSES; class ++)
        if (block->counts[class]) __atomic_fetch_add(&totals[class], block->counts[class], __ATOMIC_RELAXED);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    struct block *block = calloc(1, sizeof *block);
    (void)id;
    if (!block) abort();
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof word);
        block->counts[classify(word)]++;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, QEMU_PLUGIN_CB_NO_REGS, block);
}

static void finished(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    for (int class = 0; class < CLASSES; class ++) {
        char line[64];
        snprintf(line, sizeof line, "%s %llu\n", NAMES[class], (unsigned long long)totals[class]);
        qemu_plugin_outs(line);
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
