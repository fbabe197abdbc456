"""ocpp_central.py PORT: a central system for chargers that speak OCPP 1.6 or 2.0.1, with the packages `ocpp` and
`websockets`.

A charger connects to /ocpp/ID with its ID and the password `secret of ID` as Basic authentication. Prints its port at the
start (PORT 0 takes a free one). For each line of its input it calls every charger that is connected, and prints how many
of them have accepted. It ends in order, with 1001 for everybody, when it is told to terminate.
"""

import asyncio
import os
import signal
import sys
from datetime import datetime, timezone

import ocpp.v16
import ocpp.v201
from ocpp.routing import on
from ocpp.v201.datatypes import IdTokenType
from websockets.asyncio.server import basic_auth, serve
from websockets.exceptions import ConnectionClosed

chargers = set()


def now():
    return datetime.now(timezone.utc).isoformat()


class Charger16(ocpp.v16.ChargePoint):
    @on("BootNotification")
    def boot(self, **_):
        return ocpp.v16.call_result.BootNotification(current_time=now(), interval=300, status="Accepted")

    @on("Heartbeat")
    def heartbeat(self):
        return ocpp.v16.call_result.Heartbeat(current_time=now())

    def begin(self):
        return self.call(ocpp.v16.call.RemoteStartTransaction(id_tag="card"))


class Charger201(ocpp.v201.ChargePoint):
    @on("BootNotification")
    def boot(self, **_):
        return ocpp.v201.call_result.BootNotification(current_time=now(), interval=300, status="Accepted")

    @on("Heartbeat")
    def heartbeat(self, **_):
        return ocpp.v201.call_result.Heartbeat(current_time=now())

    def begin(self):
        token = IdTokenType(id_token="card", type="Central")
        return self.call(ocpp.v201.call.RequestStartTransaction(id_token=token, remote_start_id=1))


async def connected(socket):
    if socket.request.path != f"/ocpp/{socket.username}":
        await socket.close(1008, "another charger's path")
        return
    kind = {"ocpp1.6": Charger16, "ocpp2.0.1": Charger201}[socket.subprotocol]
    charger = kind(socket.username, socket)
    chargers.add(charger)
    try:
        await charger.start()
    except ConnectionClosed:
        pass
    finally:
        chargers.discard(charger)


async def main():
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    check = basic_auth(realm="chargers", check_credentials=lambda user, password: password == f"secret of {user}")
    protocols = ["ocpp2.0.1", "ocpp1.6"]
    async with serve(connected, "127.0.0.1", int(sys.argv[1]), subprotocols=protocols, process_request=check) as server:
        print(server.sockets[0].getsockname()[1], flush=True)

        async def command():
            while await asyncio.to_thread(sys.stdin.readline):
                answers = await asyncio.gather(*(charger.begin() for charger in list(chargers)))
                print(sum(answer.status == "Accepted" for answer in answers), flush=True)

        commands = asyncio.create_task(command())
        await ended.wait()
        commands.cancel()
        server.close(code=1001, reason="restart")
        await server.wait_closed()
    # A thread still waits for a line.
    sys.stdout.flush()
    os._exit(0)


asyncio.run(main())
