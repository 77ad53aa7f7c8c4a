"""A client of the Istio API that knows the published .proto file, the CA's roots and a token, and nothing else.

usage: client.py PROTO_DIR ADDRESS ROOTS TOKEN_FILE OUT_DIR

Makes a key and a CSR, gets a certificate, has `cryptography` verify it, and writes leaf.pem, intermediates.pem and
roots.pem into OUT_DIR. Prints one JSON object with what it saw.
"""

import datetime
import json
import pathlib
import sys

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from grpc_tools import protoc


def generate(proto_dir, out):
    """Makes the stubs from ca.proto and imports them."""
    # struct.proto, which ca.proto imports, comes with grpcio-tools.
    well_known = pathlib.Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{proto_dir}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main([*arguments, "ca.proto"]) != 0:
        sys.exit("ca.proto cannot be compiled")
    sys.path.insert(0, str(out))
    import ca_pb2
    import ca_pb2_grpc

    return ca_pb2, ca_pb2_grpc


def verify(leaf, intermediates, roots):
    """Path validation as a server does it for a client's certificate, then every signature by itself."""
    builder = verification.PolicyBuilder().store(verification.Store(roots))
    builder = builder.time(datetime.datetime.now(datetime.timezone.utc))
    verified = builder.build_client_verifier().verify(leaf, intermediates)
    chain = [leaf, *intermediates, next(root for root in roots if root.subject == intermediates[-1].issuer)]
    for certificate, issuer in zip(chain, chain[1:]):
        certificate.verify_directly_issued_by(issuer)
    return [name.value for name in verified.subjects]


def main():
    proto_dir, address, roots_file, token_file, out = sys.argv[1:]
    out = pathlib.Path(out)
    ca_pb2, ca_pb2_grpc = generate(proto_dir, out)
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    token = pathlib.Path(token_file).read_text().strip()
    credentials = grpc.ssl_channel_credentials(pathlib.Path(roots_file).read_bytes())
    with grpc.secure_channel(address, credentials) as channel:
        stub = ca_pb2_grpc.IstioCertificateServiceStub(channel)
        message = ca_pb2.IstioCertificateRequest(
            csr=request.public_bytes(serialization.Encoding.PEM).decode(), validity_duration=3600
        )
        metadata = [("authorization", f"Bearer {token}")]
        reply = stub.CreateCertificate(message, metadata=metadata, timeout=20)

    leaf_pem, *intermediates_pem, roots_pem = reply.cert_chain
    leaf = x509.load_pem_x509_certificate(leaf_pem.encode())
    intermediates = [x509.load_pem_x509_certificate(text.encode()) for text in intermediates_pem]
    roots = x509.load_pem_x509_certificates(roots_pem.encode())
    (out / "leaf.pem").write_text(leaf_pem)
    (out / "intermediates.pem").write_text("".join(intermediates_pem))
    (out / "roots.pem").write_text(roots_pem)
    seen = {
        "subjects": verify(leaf, intermediates, roots),
        "own_key": leaf.public_key() == key.public_key(),
        "seconds": int((leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds()),
        "subject": leaf.subject.rfc4514_string(),
        "extensions": {extension.oid.dotted_string: extension.critical for extension in leaf.extensions},
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
