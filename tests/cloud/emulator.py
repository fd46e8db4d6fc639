"""A small Cloud Storage on this machine: the part of its JSON API that
TensorFlow's file system and TensorStore use, and its failures.

TensorFlow has no setting for another address. It reads `https_proxy` and
`CURL_CA_BUNDLE`, though: this is a proxy that answers for Google's hosts
itself, under a certificate made for the occasion. TensorStore has
`TENSORSTORE_GCS_HTTP_URL`. Nothing leaves the machine.

  https://cloud.google.com/storage/docs/json_api/v1/objects
"""

import contextlib
import http.server
import itertools
import json
import re
import ssl
import subprocess
import threading
import urllib.parse

HOSTS = ("www.googleapis.com", "storage.googleapis.com")
BUCKET = "bucket"


class Bucket:
  """Objects by name, each whole or not there; and what is asked of them.

  Attributes:
    objects: name -> (content, generation).
    written: (name, bytes) of every upload.
    denied: a pattern; objects of such names can't be changed (403).
    unreachable: a pattern; what has such a name is answered with 503.
  """

  def __init__(self):
    self.objects, self.written = {}, []
    self.denied = self.unreachable = None
    self.lock = threading.RLock()
    self._generations = itertools.count(1_700_000_000_000_000)
    self.uploads = {}

  def put(self, name, content):
    if name.endswith(("/deny", "/allow")):       # For other processes.
      self.denied = "jsonl" if name.endswith("/deny") else None
    with self.lock:
      self.objects[name] = (content, next(self._generations))
      self.written.append((name, len(content)))
    return self.describe(name)

  def describe(self, name):
    content, generation = self.objects[name]
    return {"kind": "storage#object", "name": name, "bucket": BUCKET,
            "size": str(len(content)), "generation": str(generation),
            "metageneration": "1", "storageClass": "STANDARD",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z"}

  def names(self, folder):
    """What is below a folder, without the folder."""
    with self.lock:
      return sorted(name.removeprefix(folder) for name in self.objects
                    if name.startswith(folder) and name != folder)

  def list(self, prefix="", delimiter="", start="", end="", limit=1000):
    """(names, folders, the name to go on from)."""
    names, folders = [], []
    for name in sorted(self.objects):
      if not name.startswith(prefix) or name < start or end and name >= end:
        continue
      if len(names) + len(folders) == limit:
        return names, folders, name
      rest = name[len(prefix):]
      if delimiter and delimiter in rest:
        folder = prefix + rest[:rest.index(delimiter) + 1]
        if folder not in folders:
          folders.append(folder)
      else:
        names.append(name)
    return names, folders, ""


class Handler(http.server.BaseHTTPRequestHandler):
  """One connection, plain or after CONNECT."""
  protocol_version = "HTTP/1.1"

  def log_message(self, *unused):
    pass

  def do_CONNECT(self):
    host = self.path.partition(":")[0]
    if host not in HOSTS:
      return self.answer(403, b"")
    self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    with contextlib.suppress(OSError):        # The client may be killed.
      secure = self.server.context.wrap_socket(
          self.connection, server_side=True)
      type(self)(secure, self.client_address, self.server)
    self.close_connection = True

  def answer(self, status, content=b"", **headers):
    if not isinstance(content, bytes):
      content = json.dumps(content).encode()
      headers["Content-Type"] = "application/json"
    self.send_response(status)
    for key, value in headers.items():
      self.send_header(key.replace("_", "-"), str(value))
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    with contextlib.suppress(OSError):
      self.wfile.write(content)

  def body(self):
    if self.headers.get("Transfer-Encoding") != "chunked":
      return self.rfile.read(int(self.headers.get("Content-Length") or 0))
    parts = []
    while size := int(self.rfile.readline(), 16):
      parts.append(self.rfile.read(size))
      self.rfile.readline()
    self.rfile.readline()
    return b"".join(parts)

  def handle_request(self):
    body = self.body()
    url = urllib.parse.urlsplit(self.path)
    self.query = dict(urllib.parse.parse_qsl(
        url.query, keep_blank_values=True))
    bucket = self.server.bucket
    for pattern, method in (
        (rf"/upload/storage/v1/b/{BUCKET}/o", self.upload),
        (rf"/storage/v1/b/{BUCKET}/o", self.list),
        (rf"/storage/v1/b/{BUCKET}/o/([^/]+)/rewriteTo/b/{BUCKET}/o/([^/]+)",
         self.rewrite),
        (rf"/storage/v1/b/{BUCKET}/o/([^/]+)", self.one),
        (rf"/storage/v1/b/{BUCKET}(?:/storageLayout)?", self.about),
        (rf"/{BUCKET}/(.+)", self.read)):
      match = re.fullmatch(pattern, url.path)
      if match:
        with bucket.lock:
          names = [urllib.parse.unquote(x) for x in match.groups()]
          if names and bucket.unreachable and re.search(
              bucket.unreachable, names[0]):
            return self.answer(503, {"error": {"code": 503}})
          answer = method(*names, body=body)
        return self.answer(answer[0], answer[1], **(answer[2:] or [{}])[0])
    return self.answer(404, {"error": {"code": 404, "message": "Not Found"}})

  def about(self, body):
    return 200, {"name": BUCKET, "bucket": BUCKET, "location": "EU",
                 "hierarchicalNamespace": {"enabled": False}}

  def list(self, body):
    ask = self.query.get
    names, folders, after = self.server.bucket.list(
        ask("prefix", ""), ask("delimiter", ""),
        ask("pageToken") or ask("startOffset", ""), ask("endOffset", ""),
        int(ask("maxResults", 1000)))
    found = {"kind": "storage#objects", "prefixes": folders,
             "items": [self.server.bucket.describe(x) for x in names]}
    return 200, found | ({"nextPageToken": after} if after else {})

  def one(self, name, body):
    bucket = self.server.bucket
    if self.command == "GET":
      return self.read(name, body) if self.query.get("alt") == "media" else (
          (200, bucket.describe(name)) if name in bucket.objects else
          (404, {"error": {"code": 404}}))
    if self.refused(name):
      return self.refused(name)
    if self.command != "DELETE" or name not in bucket.objects:
      return 404, {"error": {"code": 404}}
    del bucket.objects[name]
    return 204, b""

  def read(self, name, body):
    if name not in self.server.bucket.objects:
      return 404, {"error": {"code": 404}}
    content, generation = self.server.bucket.objects[name]
    known = {"x_goog_generation": generation, "x_goog_metageneration": 1,
             "x_goog_stored_content_length": len(content)}
    if self.query.get("ifGenerationNotMatch") == str(generation):
      return 304, b"", known
    match = re.fullmatch(
        r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
    if not match:
      return 200, content, known
    first, last = int(match[1]), int(match[2] or len(content))
    if first >= len(content):
      return 416, b"", known
    part = content[first:last + 1]
    return 206, part, known | {
        "Content_Range":
            f"bytes {first}-{first + len(part) - 1}/{len(content)}"}

  def refused(self, name):
    """The answer to a change that isn't allowed, or whose condition fails."""
    bucket = self.server.bucket
    if bucket.denied and re.search(bucket.denied, name):
      return 403, {"error": {"code": 403, "message": "denied"}}
    wanted = self.query.get("ifGenerationMatch")
    have = bucket.objects.get(name, (b"", 0))[1]
    if wanted is not None and int(wanted) != have:
      return 412, {"error": {"code": 412}}
    return None

  def rewrite(self, name, target, body):
    if self.refused(target):
      return self.refused(target)
    if name not in self.server.bucket.objects:
      return 404, {"error": {"code": 404}}
    return 200, {"done": True, "resource": self.server.bucket.put(
        target, self.server.bucket.objects[name][0])}

  def upload(self, body):
    """Whole (`media`), or in parts, which are seen once the last has come."""
    bucket, number = self.server.bucket, self.query.get("upload_id")
    name = bucket.uploads[number][0] if number else self.query["name"]
    if self.refused(name):
      return self.refused(name)
    if self.query.get("uploadType") == "media":
      return 200, bucket.put(name, body)
    if number is None:
      number = str(len(bucket.uploads))
      bucket.uploads[number] = (name, bytearray())
      return 200, b"", {"Location": (
          f"https://www.googleapis.com/upload/storage/v1/b/{BUCKET}/o"
          f"?upload_id={number}")}
    parts = bucket.uploads[number][1]
    parts += body
    total = self.headers.get("Content-Range", "/*").rpartition("/")[2]
    if total == "*" or len(parts) < int(total):
      return 308, b"", {"Range": f"bytes=0-{len(parts) - 1}"} if parts else {}
    return 200, bucket.put(name, bytes(parts))


for _method in ("GET", "POST", "PUT", "DELETE"):
  setattr(Handler, f"do_{_method}", Handler.handle_request)


def certificate(folder):
  """Makes cert.pem and key.pem for Google's hosts."""
  names = ",".join(f"DNS:{host}" for host in HOSTS)
  subprocess.run(
      ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days",
       "2", "-subj", "/CN=emulator", "-addext", f"subjectAltName={names}",
       "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
      check=True, capture_output=True)


class Server(http.server.ThreadingHTTPServer):
  daemon_threads = True

  def handle_error(self, *unused):
    pass                                # A client that was killed.


@contextlib.contextmanager
def running(folder):
  """Runs it; yields the bucket and the environment that leads there.

  Args:
    folder: for the certificate.
  """
  certificate(folder)
  server = Server(("127.0.0.1", 0), Handler)
  server.bucket = Bucket()
  server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  server.context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  address = f"http://127.0.0.1:{server.server_port}"
  try:
    yield server.bucket, {
        "https_proxy": address, "CURL_CA_BUNDLE": str(folder / "cert.pem"),
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "token",
        "TENSORSTORE_GCS_HTTP_URL": address, "no_proxy": "127.0.0.1",
        "STORAGE_EMULATOR_HOST": address,
        "GCS_RETRY_CONFIG_MAX_RETRIES": "2",
        "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "20000"}
  finally:
    server.shutdown()
    server.server_close()
