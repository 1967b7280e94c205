"""Modbus slaves by pymodbus, told what to hold by lines of JSON on standard input.

modbus_slave.py tcp|rtu+tcp|serial WHERE UNIT...
    tcp, rtu+tcp   WHERE is a port, 0 for any; the port is printed as `port N`
    serial         WHERE is the path of a line
input    {"unit": 1, "at": 6, "values": [2048, 0, 100]}   wire addresses
         {"unit": 2, "beat": 11}                          register 11 counts ten times a second; null stops it
         {"unit": 1, "pause_ms": 120}                     every answer comes so much later
output   ready · port N · wrote UNIT AT [VALUES]
"""

import asyncio
import json
import sys

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

REGISTERS = 512
held: dict[int, dict[int, int]] = {}
beats: dict[int, int | None] = {}
pauses: dict[int, int] = {}


def device(unit: int) -> SimDevice:
    held[unit] = {}

    async def action(function, start, address, count, registers, values):
        await asyncio.sleep(pauses.get(unit, 0) / 1000)
        if values is not None:
            print("wrote", unit, address, json.dumps([int(v) for v in values]), flush=True)
            for i, value in enumerate(values):
                held[unit][address + i] = int(value)
        for at, value in held[unit].items():
            registers[at - start] = value
        return None

    data = [SimData(0, count=REGISTERS, values=0, datatype=DataType.REGISTERS)]
    return SimDevice(id=unit, simdata=data, action=action)


async def obey() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        told = json.loads(line)
        if "beat" in told:
            beats[told["unit"]] = told["beat"]
        elif "pause_ms" in told:
            pauses[told["unit"]] = told["pause_ms"]
        else:
            for i, value in enumerate(told["values"]):
                held[told["unit"]][told["at"] + i] = value
        print("done", flush=True)
    # Whoever held our input is gone.
    loop.stop()


async def beat() -> None:
    while True:
        await asyncio.sleep(0.1)
        for unit, at in beats.items():
            if at is not None:
                held[unit][at] = (held[unit].get(at, 0) + 1) % 65536


async def main() -> None:
    kind, where, *units = sys.argv[1:]
    devices = [device(int(unit)) for unit in units]
    if kind == "serial":
        server = ModbusSerialServer(devices, framer=FramerType.RTU, port=where, baudrate=19200)
    else:
        framer = FramerType.RTU if kind == "rtu+tcp" else FramerType.SOCKET
        server = ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", int(where)))
    await server.serve_forever(background=True)
    if kind != "serial":
        print("port", server.transport.sockets[0].getsockname()[1], flush=True)
    print("ready", flush=True)
    await asyncio.gather(beat(), obey())


try:
    asyncio.run(main())
except RuntimeError:
    pass
