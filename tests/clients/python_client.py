"""python_client.py PLAIN_PORT TLS_PORT CA_FILE: what the Python package `websockets` makes of a gateway.

The gateway has the endpoints /echo, /broadcast and /proto on both ports. Each check prints
`ok NAME`; the first one that fails ends the run with its reason and exit status 1.
The package's defaults stay as they are, so it offers permessage-deflate, as its users do.
Its threaded client is no choice here: it reads and writes one TLS session from two threads,
which hangs now and then on Python versions whose ssl module does not lock.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect

# The longest that any single wait may take, in seconds.
DEADLINE = 10
MEBIBYTE = 1 << 20

plain_port, tls_port, ca_file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def join(path, **options):
    # No proxy from the environment: the gateway is on this machine.
    return connect(
        f"ws://localhost:{plain_port}{path}", proxy=None, open_timeout=DEADLINE, close_timeout=DEADLINE, **options
    )


def join_tls(path):
    # Only this authority is trusted, and the name is checked.
    context = ssl.create_default_context(cafile=ca_file)
    return connect(
        f"wss://localhost:{tls_port}{path}", ssl=context, proxy=None, open_timeout=DEADLINE, close_timeout=DEADLINE
    )


async def receive(client):
    try:
        return await asyncio.wait_for(client.recv(), DEADLINE)
    except TimeoutError:
        raise TimeoutError(f"no message within {DEADLINE} s") from None


def expect(what, actual, expected):
    if actual != expected:
        if type(actual) is type(expected) and len(expected) > 80:
            # Two long values that look alike: where they part says more than how they begin.
            at = next((n for n, (a, e) in enumerate(zip(actual, expected)) if a != e), min(len(actual), len(expected)))
            raise AssertionError(f"{what}: {len(actual)} of {len(expected)} long, wrong from {at} on")
        raise AssertionError(f"{what}: expected {brief(expected)}, got {brief(actual)}")


def brief(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}... ({len(value)} long)"


def pattern(length):
    """Bytes of a period that no power of two divides, so that a lost or doubled block shows."""
    period = bytes(range(251))
    return (period * (length // len(period) + 1))[:length]


async def echo():
    async with join("/echo") as client:
        for text in ["hello", "", "Grüße, 世界 🌍"]:
            await client.send(text)
            expect("echo", await receive(client), text)


async def broadcast():
    async with join("/broadcast") as sender, join("/broadcast") as plain, join_tls("/broadcast") as encrypted:
        everybody = {"the sender": sender, "the other client": plain, "the TLS client": encrypted}
        for n in range(100):
            await sender.send(f"message {n}")
        for name, client in everybody.items():
            for n in range(100):
                expect(name, await receive(client), f"message {n}")


async def binary():
    async with join("/echo") as client:
        for data in [bytes(range(256)), b""]:
            await client.send(data)
            expect("binary echo", await receive(client), data)


async def subprotocol():
    async with join("/proto", subprotocols=["chat.v1", "chat.v2"]) as client:
        expect("agreed subprotocol", client.subprotocol, "chat.v2")
        await client.send("agreed")
        expect("echo", await receive(client), "agreed")
    async with join("/proto") as client:
        expect("subprotocol when none was offered", client.subprotocol, None)


async def large():
    async with join("/echo") as client:
        await client.send(pattern(MEBIBYTE))
        expect("1 MiB binary echo", await receive(client), pattern(MEBIBYTE))
        text = "ü" * (MEBIBYTE // 2)
        await client.send(text)
        expect("1 MiB text echo", await receive(client), text)


async def wss():
    async with join_tls("/echo") as client:
        await client.send("encrypted")
        expect("echo", await receive(client), "encrypted")
        await client.send(pattern(MEBIBYTE))
        expect("1 MiB echo", await receive(client), pattern(MEBIBYTE))


async def close():
    for connection in [join("/echo"), join_tls("/echo")]:
        async with connection as client:
            await client.send("last")
            expect("echo", await receive(client), "last")
            await client.close(code=1000, reason="done")
            # This is the gateway's own Close frame: 1006 if it cut the connection instead.
            expect("the gateway's close code", client.close_code, 1000)


async def main():
    for check in [echo, broadcast, binary, subprotocol, large, wss, close]:
        try:
            await check()
        except Exception as error:
            sys.exit(f"failed {check.__name__}: {type(error).__name__}: {error}")
        print(f"ok {check.__name__}", flush=True)


asyncio.run(main())
