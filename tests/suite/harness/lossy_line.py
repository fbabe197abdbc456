"""The middle of a line that loses packets: owns a TUN device at each end and carries packets over.

Run in a network namespace, with the seed of the losses as its argument. It makes the devices `near`
and `far` there and says "ready"; one of them is to be moved elsewhere. Each line of its input is
what to lose from then on, "NEAR_TO_FAR FAR_TO_NEAR", as parts of 1; it answers with the number of
packets that it has carried so far and of those that it has lost. The end of its input ends it.
"""

import fcntl
import os
import random
import select
import struct
import sys

# From linux/if_tun.h: TUNSETIFF, and IFF_TUN without a header of its own (IFF_NO_PI).
SET_INTERFACE = 0x400454CA
PLAIN_PACKETS = 0x0001 | 0x1000
# More than any packet: a device has the usual 1,500 bytes.
PACKET_MAX = 65536


def device(name):
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, SET_INTERFACE, struct.pack("16sH22x", name, PLAIN_PACKETS))
    return descriptor


def main():
    chance = random.Random(int(sys.argv[1]))
    near, far = device(b"near"), device(b"far")
    across = {near: far, far: near}
    loss = {near: 0.0, far: 0.0}
    carried = lost = 0
    print("ready", flush=True)
    while True:
        for ready in select.select([near, far, 0], [], [])[0]:
            if ready == 0:
                line = os.read(0, 4096)
                if not line:
                    return
                loss[near], loss[far] = map(float, line.split())
                print(carried, lost, flush=True)
                continue
            packet = os.read(ready, PACKET_MAX)
            if chance.random() < loss[ready]:
                lost += 1
                continue
            try:
                os.write(across[ready], packet)
                carried += 1
            except OSError:
                # The other end is not up, yet or any more.
                lost += 1


main()
