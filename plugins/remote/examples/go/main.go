// A root authority for Banyan in Go: its own root, kept in one directory: go run . DIRECTORY SOCKET
// DIRECTORY has one JSON file, replaced before every answer, keys included and not encrypted: this is an example.
// pluginv1 is generated from proto/protos/banyan/plugin/v1/plugin.proto by protoc-gen-go and protoc-gen-go-grpc.
package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	pb "example.org/banyan-plugin/pluginv1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

type book struct {
	Generation uint64
	Signing    []byte
	Roots      map[string][2][]byte // by id in hexadecimal: certificate and key
	Answers    map[string][2][]byte // by request id: what was asked, and the certificate
}

type plugin struct {
	pb.UnimplementedRootAuthorityServiceServer
	turn      sync.Mutex
	directory string
}

// Runs f over the stored book, one call at a time, and stores what f changed before the answer is given.
func over[T any](p *plugin, f func(*book) (T, error)) (answer T, err error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	b, path := &book{Roots: map[string][2][]byte{}, Answers: map[string][2][]byte{}}, filepath.Join(p.directory, "book.json")
	before, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(before, b)
	}
	if err != nil && !os.IsNotExist(err) {
		return answer, status.Error(codes.DataLoss, "the book cannot be read; restore it")
	}
	if answer, err = f(b); err != nil {
		return answer, err
	}
	after, err := json.Marshal(b)
	if err != nil || bytes.Equal(before, after) {
		return answer, err
	}
	return answer, durable(path, after)
}

// The file, then the name. A file that could not be opened fails whatever is done with it.
func durable(path string, data []byte) error {
	file, opened := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	_, written := file.Write(data)
	if err := errors.Join(opened, written, file.Sync(), file.Close()); err != nil {
		return err
	}
	renamed := os.Rename(path+".tmp", path)
	directory, opened := os.Open(filepath.Dir(path))
	return errors.Join(renamed, opened, directory.Sync(), directory.Close())
}

// The certificate that this request got before, or the one that f makes for it.
func (b *book) once(id, asked string, f func() ([]byte, error)) ([]byte, error) {
	if known, found := b.Answers[id]; found && string(known[0]) == asked {
		return known[1], nil
	} else if found {
		return nil, status.Error(codes.AlreadyExists, "this request id was used for something else")
	}
	der, err := f()
	b.Answers[id] = [2][]byte{[]byte(asked), der}
	return der, err
}

func template(role, domain string, seconds int64) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("Go example %s %x", role, serial)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Duration(seconds) * time.Second),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: domain}},
	}
}

func (p *plugin) Handshake(_ context.Context, _ *pb.HandshakeRequest) (*pb.HandshakeResponse, error) {
	return &pb.HandshakeResponse{Version: 1, Name: "go-example", PluginVersion: "1", Capabilities: []string{"stage"}}, nil
}

func (p *plugin) Check(_ context.Context, _ *pb.CheckRequest) (*pb.CheckResponse, error) {
	return &pb.CheckResponse{State: pb.HealthState_HEALTH_STATE_OK}, nil
}

func (p *plugin) Roots(_ context.Context, _ *pb.RootsRequest) (*pb.RootSet, error) {
	return over(p, func(b *book) (*pb.RootSet, error) {
		set := &pb.RootSet{Signing: b.Signing, Generation: b.Generation}
		for _, r := range b.Roots {
			set.Roots = append(set.Roots, r[0])
		}
		return set, nil
	})
}

func (b *book) mint(q *pb.StageRootRequest) ([]byte, error) {
	if q.KeyType != "p256" {
		return nil, status.Error(codes.InvalidArgument, "the key type is p256")
	}
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // Go's randomness never fails
	t := template("root", q.TrustDomain, q.LifetimeSeconds)
	der, failed := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	stored, err := x509.MarshalECPrivateKey(key)
	b.Roots[fmt.Sprintf("%x", sha256.Sum256(der))] = [2][]byte{der, stored}
	b.Generation++
	return der, errors.Join(failed, err)
}

func (p *plugin) StageRoot(_ context.Context, q *pb.StageRootRequest) (*pb.StageRootResponse, error) {
	return over(p, func(b *book) (*pb.StageRootResponse, error) {
		asked := fmt.Sprintf("root %s %d %s", q.TrustDomain, q.LifetimeSeconds, q.KeyType)
		der, err := b.once(q.RequestId, asked, func() ([]byte, error) { return b.mint(q) })
		return &pb.StageRootResponse{Outcome: &pb.StageRootResponse_Root{Root: der}}, err
	})
}

func (p *plugin) ActivateRoot(_ context.Context, q *pb.ActivateRootRequest) (*pb.ActivateRootResponse, error) {
	return over(p, func(b *book) (*pb.ActivateRootResponse, error) {
		if _, found := b.Roots[fmt.Sprintf("%x", q.Root)]; !found {
			return nil, status.Error(codes.NotFound, "this plugin has no such root")
		}
		if !bytes.Equal(b.Signing, q.Root) {
			b.Signing = q.Root
			b.Generation++
		}
		return &pb.ActivateRootResponse{}, nil
	})
}

func (b *book) sign(q *pb.SignIssuerRequest) ([]byte, error) {
	r, found := b.Roots[fmt.Sprintf("%x", q.Root)]
	if !found {
		return nil, status.Error(codes.PermissionDenied, "this plugin has no such root")
	}
	csr, refused := x509.ParseCertificateRequest(q.Csr)
	above, failed := x509.ParseCertificate(r[0])
	key, err := x509.ParseECPrivateKey(r[1])
	if refused != nil || csr.CheckSignature() != nil {
		return nil, status.Error(codes.InvalidArgument, "the CSR does not prove possession of its key")
	} else if err := errors.Join(failed, err); err != nil {
		return nil, err
	} else if above.URIs[0].Host != q.TrustDomain {
		return nil, status.Error(codes.PermissionDenied, "that root is of another trust domain")
	}
	t := template("issuer", q.TrustDomain, q.TtlSeconds)
	t.MaxPathLen, t.MaxPathLenZero = int(q.PathLen), q.PathLen == 0
	if t.NotAfter.After(above.NotAfter) {
		return nil, status.Error(codes.FailedPrecondition, "the root ends before the issuer would")
	}
	return x509.CreateCertificate(rand.Reader, t, above, csr.PublicKey, key)
}

func (p *plugin) SignIssuer(_ context.Context, q *pb.SignIssuerRequest) (*pb.SignIssuerResponse, error) {
	return over(p, func(b *book) (*pb.SignIssuerResponse, error) {
		asked := fmt.Sprintf("%x %x %s %d %d", q.Root, sha256.Sum256(q.Csr), q.TrustDomain, q.TtlSeconds, q.PathLen)
		der, err := b.once(q.RequestId, asked, func() ([]byte, error) { return b.sign(q) })
		chain := &pb.IssuerChain{Certificates: [][]byte{der}}
		return &pb.SignIssuerResponse{Outcome: &pb.SignIssuerResponse_Chain{Chain: chain}}, err
	})
}

func (p *plugin) Poll(_ context.Context, _ *pb.PollRequest) (*pb.SignIssuerResponse, error) {
	return nil, status.Error(codes.NotFound, "this plugin answers at once and never gave a ticket")
}

func main() {
	made := os.MkdirAll(os.Args[1], 0o700)
	listener, err := net.Listen("unix", os.Args[2])
	if err := errors.Join(made, err); err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterRootAuthorityServiceServer(server, &plugin{directory: os.Args[1]})
	log.Fatal(server.Serve(listener))
}
