"""poster.py PORT: posts 20 messages as scripts do, by urllib (a connection each) and by http.client (one for all)."""

import http.client
import sys
import urllib.request

port = int(sys.argv[1])
url = f"http://127.0.0.1:{port}/rooms/7"

for number in range(10):
    request = urllib.request.Request(url, data=b"python3 %d" % number, headers={"Content-Type": "text/plain"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 202, answer.status

connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
ports = set()
for number in range(10, 20):
    connection.request("POST", "/rooms/7", b"python3 %d" % number, {"Content-Type": "text/plain"})
    ports.add(connection.sock.getsockname()[1])
    answer = connection.getresponse()
    assert answer.status == 202 and answer.read() == b'{"accepted":1}', answer.status
print(len(ports), "connection")
