"""ocpp_chargers.py URL COUNT: so many chargers in one process, with the packages `ocpp` and `websockets`. Every second one
speaks OCPP 1.6, the others 2.0.1.

Charger ID connects to URL/ID with Basic authentication and tells the central system that it has booted. Prints `ready`
once all of them were accepted. For each line of its input every charger sends a heartbeat; prints `ok` once all were
answered. A connection that ends, or anything else that is wrong, ends the run with its reason and exit status 1.
"""

import asyncio
import os
import sys

import ocpp.v16
import ocpp.v201
from ocpp.routing import on
from ocpp.v201.datatypes import ChargingStationType
from websockets.asyncio.client import connect

# The longest that anything may take, in seconds.
DEADLINE = 60

url, count = sys.argv[1], int(sys.argv[2])


class Charger16(ocpp.v16.ChargePoint):
    @on("RemoteStartTransaction")
    def start_transaction(self, **_):
        return ocpp.v16.call_result.RemoteStartTransaction(status="Accepted")

    def boot(self):
        return self.call(ocpp.v16.call.BootNotification(charge_point_model="one", charge_point_vendor="test"))

    def heartbeat(self):
        return self.call(ocpp.v16.call.Heartbeat())


class Charger201(ocpp.v201.ChargePoint):
    @on("RequestStartTransaction")
    def start_transaction(self, **_):
        return ocpp.v201.call_result.RequestStartTransaction(status="Accepted")

    def boot(self):
        station = ChargingStationType(model="two", vendor_name="test")
        return self.call(ocpp.v201.call.BootNotification(charging_station=station, reason="PowerUp"))

    def heartbeat(self):
        return self.call(ocpp.v201.call.Heartbeat())


async def charger(number):
    kind, protocol = [(Charger16, "ocpp1.6"), (Charger201, "ocpp2.0.1")][number % 2]
    name = f"DE*ABC*E{number}"
    user = name.replace("*", "%2A")
    scheme, place = url.split("://")
    address = f"{scheme}://{user}:secret%20of%20{user}@{place}/{name}"
    # No proxy from the environment: the gateway is on this machine.
    socket = await connect(address, subprotocols=[protocol], proxy=None, open_timeout=DEADLINE, ping_interval=5)
    if socket.subprotocol != protocol:
        sys.exit(f"{name}: {socket.subprotocol} instead of {protocol}")
    return kind(name, socket, response_timeout=DEADLINE)


async def main():
    chargers = await asyncio.gather(*(charger(number) for number in range(count)))
    # It ends only with its connection, and that is an error.
    running = asyncio.gather(*(charger.start() for charger in chargers))

    async def story():
        for answer in await asyncio.gather(*(charger.boot() for charger in chargers)):
            if answer.status != "Accepted":
                sys.exit(f"{answer} where the boot was to be accepted")
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            for answer in await asyncio.gather(*(charger.heartbeat() for charger in chargers)):
                if not answer.current_time:
                    sys.exit(f"{answer} where the heartbeat was to be answered")
            print("ok", flush=True)

    done, _ = await asyncio.wait([asyncio.create_task(story()), running], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    # The chargers are gone with this process.
    os._exit(0)


asyncio.run(main())
