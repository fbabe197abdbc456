"""certificate.py URL CA_FILE CERTIFICATE KEY: the Python package `websockets` with a certificate of the client.

Sends one text and prints what comes back.
"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect

# The longest that any single wait may take, in seconds.
DEADLINE = 10

url, ca_file, certificate, key = sys.argv[1:]


async def main():
    context = ssl.create_default_context(cafile=ca_file)
    context.load_cert_chain(certificate, key)
    async with connect(url, ssl=context, proxy=None, open_timeout=DEADLINE, close_timeout=DEADLINE) as client:
        await client.send("hello")
        print(await asyncio.wait_for(client.recv(), DEADLINE))


asyncio.run(main())
