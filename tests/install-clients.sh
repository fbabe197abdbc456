#!/bin/bash
# Installs the client software that tests/suite/real_clients.rs, node_red.rs, ocpp.rs and admin_document.rs run
# against wsgate: Chromium, Node and Python from Debian packages (scripts/install-packages), the npm
# packages `ws` and `node-red` and the PyPI packages `websockets`, `websocket-client`, `aiohttp`, `ocpp`, `pyjwt` and `schemathesis`
# under target/clients. Re-runnable; does nothing when all is there.
set -euo pipefail

ws=8.23.0
# Node-RED 4 runs on the Node of Debian 12 (18.20); Node-RED 5 needs 22.9.
node_red=4.1.15
websockets=17.4
websocket_client=1.9.2
aiohttp=3.14.5
ocpp=2.1.0
pyjwt=2.15.1
schemathesis=4.32.5

root=$(cd "$(dirname "$0")/.." && pwd)
clients=$root/target/clients
node=$clients/node
red=$clients/node-red
python=$clients/python

"$root/scripts/install-packages" clients

if [ "$(cat "$node/version" 2> /dev/null)" != "$ws" ]; then
  echo "installing the npm package ws $ws"
  mkdir -p "$node"
  npm install --prefix "$node" --no-audit --no-fund --no-package-lock --loglevel=error "ws@$ws"
  echo "$ws" > "$node/version"
fi

if [ "$(cat "$red/version" 2> /dev/null)" != "$node_red" ]; then
  echo "installing the npm package node-red $node_red"
  # npm only warns of a Node that a package does not run on.
  node -e 'const [major, minor] = process.versions.node.split("."); process.exit(major > 18 || (major == 18 && minor >= 5) ? 0 : 1)' ||
    { echo "failed to install node-red: it needs Node 18.5 or later, and $(command -v node) is $(node --version)" >&2; exit 1; }
  rm -rf "$red"
  mkdir -p "$red"
  npm install --prefix "$red" --no-audit --no-fund --no-package-lock --loglevel=error "node-red@$node_red"
  echo "$node_red" > "$red/version"
fi

packages="websockets==$websockets websocket-client==$websocket_client aiohttp==$aiohttp ocpp==$ocpp pyjwt[crypto]==$pyjwt schemathesis==$schemathesis"
if [ "$(cat "$python/version" 2> /dev/null)" != "$packages" ]; then
  echo "installing the PyPI packages $packages"
  rm -rf "$python"
  python3 -m venv "$python"
  # shellcheck disable=SC2086 # a word for each
  "$python/bin/pip" install -q --disable-pip-version-check $packages
  echo "$packages" > "$python/version"
fi

echo "clients: $(chromium --version --no-sandbox 2> /dev/null | head -n 1), Node $(node --version) with ws $ws and Node-RED $node_red," \
  "$("$python/bin/python" --version) with $packages"
