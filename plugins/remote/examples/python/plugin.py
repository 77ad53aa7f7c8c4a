"""A root authority for Banyan in Python: its own root, kept in one directory.

Run it with grpcio, grpcio-tools and cryptography installed:

    python3 plugin.py DIRECTORY SOCKET PROTO_DIRECTORY

PROTO_DIRECTORY is the one that holds banyan/plugin/v1/plugin.proto. What it makes is in DIRECTORY: one JSON file, replaced
atomically before every answer, and one key for each root. The keys are not encrypted: this is an example.
"""

import datetime
import hashlib
import json
import os
import sys
import threading
from concurrent import futures

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

directory, socket, protos = sys.argv[1:4]
sys.path.insert(0, protos)
pb, services = grpc.protos_and_services("banyan/plugin/v1/plugin.proto")

BOOK = os.path.join(directory, "book.json")
CURVES = {"p256": ec.SECP256R1, "p384": ec.SECP384R1}


class Refused(Exception):
    def __init__(self, code, text):
        self.code, self.text = code, text


def load():
    try:
        with open(BOOK) as file:
            return json.load(file)
    except FileNotFoundError:
        return {"generation": 0, "signing": "", "roots": [], "issuers": {}}


def store(path, data):
    """Durable before it returns: the file, then the name."""
    with open(path + ".tmp", "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    handle = os.open(directory, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def fingerprint(der):
    return hashlib.sha256(der).hexdigest()


def certificate(subject, key, issuer, signer, life, path_length, trust_domain):
    now = datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer or name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(seconds=60))
        .not_valid_after(now + datetime.timedelta(seconds=life))
        .add_extension(x509.BasicConstraints(True, path_length), True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), False
        )
    )
    digest = hashes.SHA384() if signer.curve.key_size == 384 else hashes.SHA256()
    return builder.sign(signer, digest).public_bytes(serialization.Encoding.DER)


class Plugin:
    """Each method gets (request, book) and answers; the book is stored if it changed."""

    def Handshake(self, request, book):
        if 1 not in request.versions:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "this plugin speaks version 1")
        return pb.HandshakeResponse(version=1, name="python-example", plugin_version="1", capabilities=["stage"])

    def Check(self, request, book):
        ends = [x509.load_der_x509_certificate(bytes.fromhex(root["der"])).not_valid_after_utc for root in book["roots"]]
        earliest = int(min(ends).timestamp()) if ends else 0
        return pb.CheckResponse(state=pb.HEALTH_STATE_OK, earliest_expiry=earliest)

    def Roots(self, request, book):
        roots = [bytes.fromhex(root["der"]) for root in book["roots"]]
        return pb.RootSet(roots=roots, signing=bytes.fromhex(book["signing"]), generation=book["generation"])

    def StageRoot(self, request, book):
        asked = [request.trust_domain, request.lifetime_seconds, request.key_type]
        for root in book["roots"]:
            if root["request"] == request.request_id:
                if root["asked"] != asked:
                    raise Refused(grpc.StatusCode.ALREADY_EXISTS, "this request id was used for another root")
                return pb.StageRootResponse(root=bytes.fromhex(root["der"]))
        if request.key_type not in CURVES:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"key types are {', '.join(CURVES)}")
        key = ec.generate_private_key(CURVES[request.key_type]())
        subject = f"Python example root {os.urandom(8).hex()}"
        der = certificate(
            subject, key.public_key(), None, key, request.lifetime_seconds, None, request.trust_domain
        )
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        store(os.path.join(directory, fingerprint(der) + ".key"), key.private_bytes(*form))
        book["roots"].append({"request": request.request_id, "asked": asked, "der": der.hex()})
        book["generation"] += 1
        return pb.StageRootResponse(root=der)

    def ActivateRoot(self, request, book):
        if not any(fingerprint(bytes.fromhex(root["der"])) == request.root.hex() for root in book["roots"]):
            raise Refused(grpc.StatusCode.NOT_FOUND, "this plugin has no such root")
        if book["signing"] != request.root.hex():
            book["signing"] = request.root.hex()
            book["generation"] += 1
        return pb.ActivateRootResponse()

    def SignIssuer(self, request, book):
        asked = [request.root.hex(), request.csr.hex(), request.trust_domain, request.ttl_seconds, request.path_len]
        known = book["issuers"].get(request.request_id)
        if known:
            if known["asked"] != asked:
                raise Refused(grpc.StatusCode.ALREADY_EXISTS, "this request id was used for another issuer")
            return pb.SignIssuerResponse(chain=pb.IssuerChain(certificates=[bytes.fromhex(known["der"])]))
        roots = [root for root in book["roots"] if fingerprint(bytes.fromhex(root["der"])) == request.root.hex()]
        if not roots:
            raise Refused(grpc.StatusCode.NOT_FOUND, "this plugin has no such root")
        if roots[0]["asked"][0] != request.trust_domain:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "the root stands for another trust domain")
        try:
            csr = x509.load_der_x509_csr(request.csr)
            proven = csr.is_signature_valid
        except Exception:
            proven = False
        if not proven:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "the CSR does not prove possession of its key")
        root = x509.load_der_x509_certificate(bytes.fromhex(roots[0]["der"]))
        ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=request.ttl_seconds)
        if ends > root.not_valid_after_utc:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "the root ends before the issuer would")
        with open(os.path.join(directory, request.root.hex() + ".key"), "rb") as file:
            signer = serialization.load_pem_private_key(file.read(), None)
        subject, key = f"Python example issuer {os.urandom(8).hex()}", csr.public_key()
        der = certificate(
            subject, key, root.subject, signer, request.ttl_seconds, request.path_len, request.trust_domain
        )
        book["issuers"][request.request_id] = {"asked": asked, "der": der.hex()}
        return pb.SignIssuerResponse(chain=pb.IssuerChain(certificates=[der]))

    def Poll(self, request, book):
        raise Refused(grpc.StatusCode.NOT_FOUND, "this plugin answers at once and never gave a ticket")


turn = threading.Lock()


class Servicer(services.RootAuthorityServiceServicer):
    """Runs the methods of Plugin one at a time over the stored book."""


def answering(method):
    def answer(self, request, context):
        with turn:
            book = load()
            before = json.dumps(book)
            try:
                response = method(Plugin(), request, book)
            except Refused as refused:
                context.abort(refused.code, refused.text)
            if json.dumps(book) != before:
                store(BOOK, json.dumps(book).encode())
            return response

    return answer


for name in [name for name in vars(Plugin) if name[0].isupper()]:
    setattr(Servicer, name, answering(getattr(Plugin, name)))

os.makedirs(directory, mode=0o700, exist_ok=True)
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
services.add_RootAuthorityServiceServicer_to_server(Servicer(), server)
server.add_insecure_port(f"unix:{socket}")
server.start()
server.wait_for_termination()
