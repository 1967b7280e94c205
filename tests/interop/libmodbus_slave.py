"""Modbus slaves by libmodbus, the C library, told what to hold by lines of JSON on standard input.

libmodbus_slave.py tcp|serial WHERE UNIT...
    tcp      WHERE is a port, 0 for any; the port is printed as `port N`. One client is served at a time, the next one waits;
             a unit that is not here gets exception 11, with which a gateway says that nobody is there
    serial   WHERE is the path of a line; there is one unit, and libmodbus itself passes over requests to others
input    {"unit": 1, "at": 6, "values": [2048, 0, 100]}   wire addresses below REGISTERS; beyond them libmodbus answers exception 2
         {"unit": 1, "exception": 6}                       it answers this to everything; null ends it
output   ready · port N · done
"""

import ctypes
import errno
import json
import os
import socket
import sys
import threading

REGISTERS = 128
FRAME_BYTES_MAX = 260
NOBODY_THERE = 11
# Its own errors are numbered from here.
LIBMODBUS_ERRORS = 112345678
# MODBUS_ERROR_RECOVERY_PROTOCOL: after an error what has come is thrown away.
RECOVER = 4


class Mapping(ctypes.Structure):
    """modbus_mapping_t of modbus.h, version 3.1."""

    _fields_ = [
        (name, ctypes.c_int)
        for table in ("bits", "input_bits", "input_registers", "registers")
        for name in (f"nb_{table}", f"start_{table}")
    ] + [
        ("tab_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_bits", ctypes.POINTER(ctypes.c_uint8)),
        ("tab_input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("tab_registers", ctypes.POINTER(ctypes.c_uint16)),
    ]


library = ctypes.CDLL("libmodbus.so.5", use_errno=True)
library.modbus_new_tcp.restype = ctypes.c_void_p
library.modbus_new_rtu.restype = ctypes.c_void_p
library.modbus_new_rtu.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_char, ctypes.c_int, ctypes.c_int]
library.modbus_mapping_new.restype = ctypes.POINTER(Mapping)
library.modbus_reply.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(Mapping)]
library.modbus_reply_exception.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint]
for name in ("connect", "close", "receive", "tcp_listen", "tcp_accept", "set_slave", "set_error_recovery"):
    function = getattr(library, f"modbus_{name}")
    function.argtypes = {
        "receive": [ctypes.c_void_p, ctypes.c_char_p],
        "tcp_listen": [ctypes.c_void_p, ctypes.c_int],
        "tcp_accept": [ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)],
        "set_slave": [ctypes.c_void_p, ctypes.c_int],
        "set_error_recovery": [ctypes.c_void_p, ctypes.c_int],
    }.get(name, [ctypes.c_void_p])

mappings: dict[int, ctypes.POINTER(Mapping)] = {}
exceptions: dict[int, int | None] = {}


def serve(context: int, unit_at: int) -> None:
    """Answers until client or line are gone; a request's unit stands at `unit_at` of it."""
    request = ctypes.create_string_buffer(FRAME_BYTES_MAX)
    while True:
        length = library.modbus_receive(context, request)
        if length < 0 and not is_garbled(ctypes.get_errno()):
            return
        if length <= 0:
            continue
        unit = request.raw[unit_at]
        exception = exceptions.get(unit) if unit in mappings else NOBODY_THERE
        if exception is None:
            library.modbus_reply(context, request, length, mappings[unit])
        else:
            library.modbus_reply_exception(context, request, exception)


def is_garbled(error: int) -> bool:
    """Whether it is about bytes and not about the line.

    After a request to another unit libmodbus takes what comes next for that unit's answer; when there is none, that is the next
    request, which then has no checksum where one is expected. It is lost, and the one after it is understood.
    """
    return error > LIBMODBUS_ERRORS or error == errno.ETIMEDOUT


def serve_tcp(context: int, listener: ctypes.c_int) -> None:
    while library.modbus_tcp_accept(context, ctypes.byref(listener)) >= 0:
        serve(context, unit_at=6)
        library.modbus_close(context)


def main() -> None:
    kind, where, *units = sys.argv[1:]
    for unit in map(int, units):
        mappings[unit] = library.modbus_mapping_new(0, 0, REGISTERS, 0)
    if kind == "serial":
        context = library.modbus_new_rtu(where.encode(), 19200, b"N", 8, 1)
        library.modbus_set_slave(context, int(units[0]))
        library.modbus_set_error_recovery(context, RECOVER)
        if library.modbus_connect(context) < 0:
            raise OSError(ctypes.get_errno(), where)
        threading.Thread(target=serve, args=(context, 0), daemon=True).start()
    else:
        context = library.modbus_new_tcp(b"127.0.0.1", int(where))
        listener = ctypes.c_int(library.modbus_tcp_listen(context, 1))
        if listener.value < 0:
            raise OSError(ctypes.get_errno(), where)
        print("port", socket.socket(fileno=os.dup(listener.value)).getsockname()[1], flush=True)
        threading.Thread(target=serve_tcp, args=(context, listener), daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        if "exception" in told:
            exceptions[told["unit"]] = told["exception"]
        else:
            for at, value in enumerate(told["values"], told["at"]):
                mappings[told["unit"]].contents.tab_registers[at] = value
        print("done", flush=True)


main()
# Whoever held our input is gone; the serving thread still waits inside the library.
os._exit(0)
