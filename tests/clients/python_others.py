"""python_others.py PORT: what two more Python packages make of a gateway with its defaults.

`websocket-client` sends the Origin of the URL that it connects to, `aiohttp` sends none. Each prints `ok NAME` once it
has got back what it sent to /; the first failure ends the run with its reason and exit status 1.
"""

import asyncio
import sys

import aiohttp
import websocket

# The longest that any single wait may take, in seconds.
DEADLINE = 10

port = int(sys.argv[1])


def websocket_client():
    for host in ["localhost", "127.0.0.1"]:
        client = websocket.create_connection(f"ws://{host}:{port}/", timeout=DEADLINE, http_no_proxy=["*"])
        client.send("hello")
        assert client.recv() == "hello"
        client.send_binary(bytes(range(256)))
        assert client.recv() == bytes(range(256))
        client.close()


def of_aiohttp():
    async def talk():
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            # It offers permessage-deflate here.
            async with session.ws_connect(f"ws://localhost:{port}/", compress=15) as client:
                await client.send_str("hello")
                assert await client.receive_str(timeout=DEADLINE) == "hello"
                await client.send_bytes(bytes(range(256)))
                assert await client.receive_bytes(timeout=DEADLINE) == bytes(range(256))
                await client.close()
                assert client.close_code == 1000, client.close_code

    asyncio.run(talk())


for name, check in [("websocket-client", websocket_client), ("aiohttp", of_aiohttp)]:
    try:
        check()
    except Exception as error:
        sys.exit(f"failed {name}: {type(error).__name__}: {error}")
    print(f"ok {name}", flush=True)
