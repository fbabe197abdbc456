"""Makes keys, a key set of three kinds and tokens with PyJWT, for tests/suite/auth_jwt.rs.

Writes jwks.json, rs256.pem (a public key) and secret.txt into the directory that it is given, and prints a JSON object of
tokens by name.
"""

import json
import sys
import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

directory = Path(sys.argv[1])
now = int(time.time())
secret = "hunter2, a secret of thirty-two bytes or so"
keys = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
stranger = ec.generate_private_key(ec.SECP256R1())


def jwk(name, key):
    public = key.public_key()
    made = {
        "RS256": jwt.algorithms.RSAAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm,
        "EdDSA": jwt.algorithms.OKPAlgorithm,
    }[name].to_jwk(public, as_dict=True)
    return {**made, "kid": name.lower(), "use": "sig", "alg": name}


# What is not known in a set is left out.
encryption = {**jwk("RS256", keys["RS256"]), "kid": "enc", "use": "enc"}
unknown = {"kty": "future", "kid": "f"}
jwks = {"keys": [encryption, unknown, *(jwk(name, key) for name, key in keys.items())]}
(directory / "jwks.json").write_text(json.dumps(jwks))
pem = keys["RS256"].public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
(directory / "rs256.pem").write_bytes(pem)
(directory / "secret.txt").write_text(secret + "\n")

good = {"sub": "ada", "iss": "https://login.example", "aud": "wsgate", "exp": now + 600, "group": "staff", "level": 3}


def token(claims, key, algorithm, **header):
    return jwt.encode(claims, key, algorithm=algorithm, headers=header or None)


def without(name):
    return {key: value for key, value in good.items() if key != name}


tokens = {name: token(good, key, name, kid=name.lower()) for name, key in keys.items()}
es256 = keys["ES256"]
tokens |= {
    "no kid": token(good, es256, "ES256"),
    "secret": token(good, secret, "HS256"),
    "short": token({**good, "exp": now + 5}, es256, "ES256", kid="es256"),
    "expired": token({**good, "exp": now - 30}, es256, "ES256", kid="es256"),
    "endless": token(without("exp"), es256, "ES256", kid="es256"),
    "not yet": token({**good, "nbf": now + 300}, es256, "ES256", kid="es256"),
    "other issuer": token({**good, "iss": "https://evil.example"}, es256, "ES256", kid="es256"),
    "other audience": token({**good, "aud": "shop"}, es256, "ES256", kid="es256"),
    "other key": token(good, stranger, "ES256", kid="es256"),
    "unknown kid": token(good, es256, "ES256", kid="of yesterday"),
    "kid of another": token(good, es256, "ES256", kid="rs256"),
    "critical": token(good, es256, "ES256", kid="es256", crit=["b64"], b64=False),
    "none": token(good, None, "none", kid="es256"),
}
# PyJWT does not sign with a public key as if it were a secret.
header, payload = (jwt.utils.base64url_encode(part).decode() for part in (b'{"alg":"HS256","typ":"JWT"}', json.dumps(good).encode()))
signed = f"{header}.{payload}"
forged = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed.encode(), pem)
tokens["HS256 with the public key"] = f"{signed}.{jwt.utils.base64url_encode(forged).decode()}"
print(json.dumps(tokens))
