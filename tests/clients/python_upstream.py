"""An upstream for relays: the Python `websockets` server. It prints its port, agrees to the subprotocol "v2", echoes,
and closes with 4001 and a reason when it is told "close"."""

import asyncio

from websockets.asyncio.server import serve


async def talk(connection):
    async for message in connection:
        if message == "close":
            return await connection.close(code=4001, reason="as you wish")
        elif message == "path":
            await connection.send(connection.request.path)
        else:
            await connection.send(message)


async def main():
    # Compression is offered by this server to whoever asks for it, and nobody does.
    async with serve(talk, "127.0.0.1", 0, subprotocols=["v2"], max_size=4 << 20) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


asyncio.run(main())
