"""python_talker.py URL: a client that prints `connected`, then each message that it gets, and sends each line of its input."""

import asyncio
import sys

from websockets.asyncio.client import connect

# The longest that the handshake may take, in seconds.
DEADLINE = 30


async def main():
    async with connect(sys.argv[1], proxy=None, open_timeout=DEADLINE, user_agent_header="talker") as client:
        print("connected")
        loop = asyncio.get_running_loop()

        async def send():
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                await client.send(line.rstrip("\n"))

        sending = asyncio.create_task(send())
        async for message in client:
            print(message)
        sending.cancel()


asyncio.run(main())
