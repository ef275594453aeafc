"""Bytes from a place in an open file, without moving a position that other threads share."""

import os


def read_block(descriptor: int, offset: int, length: int) -> bytes:
    """`length` bytes from `offset`; fewer only where the file ends."""
    block = os.pread(descriptor, length, offset)
    if len(block) == length or not block:
        return block
    pieces = [block]
    missing = length - len(block)
    while missing and (block := os.pread(descriptor, missing, offset + length - missing)):
        pieces.append(block)
        missing -= len(block)
    return b"".join(pieces)
