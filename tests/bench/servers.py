"""The servers that are measured against, on loopback: vcsim and ceso's own simulator; and the least client of their API."""

import hashlib
import html
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import time
import urllib.parse
from pathlib import Path

from measure import Failed

ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>{}</soapenv:Body></soapenv:Envelope>'
)
LOGIN = (
    '<Login xmlns="urn:vim25"><_this type="SessionManager">ha-sessionmgr</_this>'
    "<userName>{}</userName><password>{}</password></Login>"
)
USER, PASSWORD = "bench", "bench-only"


class Server:
    """A server of the vim25 API: ready once it has printed a line of JSON with its URL."""

    def __init__(self, argv, environment=None):
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [str(word) for word in argv],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        line = self.process.stdout.readline()
        if not line:
            raise Failed(f"{argv[0]} ended before it was ready")
        url = urllib.parse.urlsplit(json.loads(line)["url"])
        self.host, self.port = url.hostname, url.port
        self.url = f"https://{url.hostname}:{url.port}/sdk"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def environment(self, home):
        """What makes it a host of ceso that needs no file."""
        certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((self.host, self.port)))
        return {
            "CESO_HOME": str(home),
            "CESO_URL": self.url,
            "CESO_USERNAME": USER,
            "CESO_PASSWORD": PASSWORD,
            "CESO_FINGERPRINT": hashlib.sha256(certificate).hexdigest(),
        }

    def login(self):
        """Logs in over a new connection, which it returns with the session's cookie."""
        connection = http.client.HTTPSConnection(self.host, self.port, context=ssl._create_unverified_context(), timeout=600)
        login = LOGIN.format(html.escape(USER), html.escape(PASSWORD))
        answer, _ = post(connection, ENVELOPE.format(login).encode(), None)
        cookie = re.match(r"(vmware_soap_session=[^;]+)", answer.getheader("Set-Cookie") or "")
        if not cookie:
            raise Failed(f"{self.url}: no session after a login: HTTP {answer.status}")
        return connection, cookie.group(1)

    def count(self, request):
        """Logs in, sends the request, and counts the machines in the answer."""
        connection, cookie = self.login()
        _, body = post(connection, request, cookie)
        connection.close()
        return body.count(b'<obj type="VirtualMachine">')


def post(connection, body, cookie):
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '"urn:vim25/6.5"'}
    if cookie:
        headers["Cookie"] = cookie
    connection.request("POST", "/sdk", body, headers)
    answer = connection.getresponse()
    return answer, answer.read()


def vcsim(program, machines, *more):
    return Server([program, "-esx", "-vm", machines, "-username", USER, "-password", PASSWORD, *more])


def ceso_sim(program, machines, *more):
    return Server([program, "sim", "--vms", machines, "--username", USER, "--password", PASSWORD, *more])


def recorded_request(program, ceso, folder: Path):
    """The body of the one request that `ceso vm list` sends with a kept session, as vcsim wrote it down."""
    trace = folder / "trace"
    with vcsim(program, 1, "-trace-file", trace) as server:
        environment = server.environment(folder / "trace-home")
        for _ in range(2):
            done = subprocess.run([ceso, "vm", "list"], env={**os.environ, **environment}, capture_output=True)
            if done.returncode != 0:
                raise Failed(f"ceso vm list failed on vcsim: {done.stderr.decode(errors='replace')}")
    lines = trace.read_text().splitlines()
    sent = [line.removeprefix("Request: ") for line in lines if line.startswith("Request: ")]
    methods = [re.search(r"Body><(\w+)", body).group(1) for body in sent]
    after_login = methods[methods.index("Login") + 1 :]
    if after_login != ["RetrievePropertiesEx"] * 2:
        raise Failed(f"ceso vm list should send one request with a kept session; after the login two runs sent {after_login}")
    return sent[-1].encode()
