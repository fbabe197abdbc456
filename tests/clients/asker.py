"""asker.py URL NAME COUNT: asks COUNT questions with the package `websockets`, four at a time, and expects the answer to
each, in order, and nothing else.

Prints `ready` once it is connected, begins when its input has a line, and prints `ok COUNT` at the end; the first thing
that is wrong ends the run with its reason and exit status 1.
"""

import asyncio
import sys

from websockets.asyncio.client import connect

# The longest that the whole run may take, in seconds.
DEADLINE = 60
WINDOW = 4

url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def ask():
    # No proxy from the environment: the gateway is on this machine.
    async with connect(url, proxy=None, open_timeout=10, close_timeout=10) as socket:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for number in range(min(WINDOW, count)):
            await socket.send(f"{name} {number}")
        for number in range(count):
            answer = await socket.recv()
            if answer != f"answer to {name} {number}":
                sys.exit(f"{name}: {answer!r} where the answer to {number} was due")
            if number + WINDOW < count:
                await socket.send(f"{name} {number + WINDOW}")
        # The answer to the Close comes behind whatever else there would be.
        await socket.close()
        async for more in socket:
            sys.exit(f"{name}: {more!r} behind the last answer")
    print(f"ok {count}", flush=True)


asyncio.run(asyncio.wait_for(ask(), DEADLINE))
