"""What pyllrp, written by others, makes of LLRP messages.

Reads a message a line from standard input, hexadecimal, and answers each with what it has read and written again, hexadecimal;
or with `error …` when it refuses: it checks types, ranges, order and numbers of parameters.
"""

import sys

import bitstring
from pyllrp.pyllrp import PackMessage, UnpackMessage

def mended(part):
    """Its reader gives fields of two bits as bits, its writer wants numbers."""
    for name in part.__slots__:
        value = getattr(part, name, None)
        if isinstance(value, bitstring.Bits):
            setattr(part, name, value.uint)
    for below in getattr(part, "Parameters", []):
        mended(below)
    return part


for line in sys.stdin:
    try:
        message = mended(UnpackMessage(bitstring.BitStream(hex=line.strip())))
        answer = PackMessage(message).hex
    except Exception as error:  # whatever a library raises is a refusal
        answer = f"error {type(error).__name__}: {error}".replace("\n", " ")
    print(answer, flush=True)
