"""A picture whose left half is dark and bluish, and whose right half is bright and reddish."""

LEFT, RIGHT, PADDING = (60, 150, 110), (180, 110, 150), 255


def plane(width: int, height: int, stride: int, left: int, right: int) -> bytes:
    row = bytes([left]) * (width // 2) + bytes([right]) * (width - width // 2)
    return (row + bytes([PADDING]) * (stride - width)) * height


def i420(width: int, height: int, stride: int) -> bytes:
    chroma = [plane(width // 2, height // 2, stride // 2, LEFT[index], RIGHT[index]) for index in (1, 2)]
    return plane(width, height, stride, LEFT[0], RIGHT[0]) + b"".join(chroma)


def nv12(width: int, height: int, stride: int) -> bytes:
    row = bytes(LEFT[1:]) * (width // 4) + bytes(RIGHT[1:]) * (width // 2 - width // 4)
    return plane(width, height, stride, LEFT[0], RIGHT[0]) + (row + bytes([PADDING]) * (stride - width)) * (height // 2)
