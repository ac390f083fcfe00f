"""A relay board as a pymodbus server: 16 coils, 8 inputs (1 and 3 on). Usage: tcp PORT | rtu TTY."""

import asyncio
import sys

from pymodbus import FramerType
from pymodbus.server import StartAsyncSerialServer, StartAsyncTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

BITS, REGISTERS = DataType.BITS, DataType.REGISTERS
board = SimDevice(
    id=1,
    simdata=(
        [SimData(0, count=16, values=False, datatype=BITS)],
        [SimData(0, values=[True, False, True] + [False] * 5, datatype=BITS)],
        [SimData(0, count=16, values=0, datatype=REGISTERS)],
        [SimData(0, count=16, values=7, datatype=REGISTERS)],
    ),
)
kind, where = sys.argv[1:3]
if kind == "tcp":
    asyncio.run(StartAsyncTcpServer(board, address=("127.0.0.1", int(where))))
else:
    asyncio.run(StartAsyncSerialServer(board, port=where, framer=FramerType.RTU, baudrate=9600))
