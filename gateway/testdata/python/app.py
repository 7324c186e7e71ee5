"""An upstream that believes the assertion, and no other header."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

keys = jwt.PyJWKClient(os.environ["JWKS"], lifespan=float(os.environ.get("JWKS_MAX_AGE", 300)))


def verify(token):
    return jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token).key,
        algorithms=["EdDSA"],
        issuer=os.environ["ISSUER"],
        audience=os.environ["AUDIENCE"],
        options={"require": ["iss", "aud", "sub", "groups", "iat", "exp"]},
    )


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one write an answer: two wait for the client's ACK

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True  # the library does not read chunks
        seen = {
            "method": self.command,
            "url": self.path,
            "headers": [text for pair in self.headers.items() for text in pair],
        }
        try:
            claims = verify(self.headers.get("X-Dssauth-Assertion", ""))
            seen |= {"login": claims["sub"], "groups": claims["groups"], "claims": claims}
            seen |= {name: claims.get(name) for name in ("name", "email")}
            status = 200
        except jwt.PyJWTError as e:
            seen["error"] = f"{type(e).__name__}: {e}"
            status = 401
        body = json.dumps(seen).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), App)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
