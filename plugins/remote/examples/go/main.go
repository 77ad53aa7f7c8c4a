// A root authority for Banyan in Go: its own root, kept in one directory.
//
//	go run . DIRECTORY SOCKET
//
// What it makes is in DIRECTORY: one JSON file, replaced atomically before every answer, keys included. They are not
// encrypted: this is an example. pluginv1 is generated from proto/protos/banyan/plugin/v1/plugin.proto by protoc-gen-go
// and protoc-gen-go-grpc.
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

type root struct {
	Request, Asked, Domain string
	Der, Key               []byte
}

type issuer struct{ Asked, Der []byte }

type book struct {
	Generation uint64
	Signing    []byte
	Roots      []root
	Issuers    map[string]issuer
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
	b, path := &book{Issuers: map[string]issuer{}}, filepath.Join(p.directory, "book.json")
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

// The file, then the name.
func durable(path string, data []byte) error {
	file, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	_, failed := file.Write(data)
	if err := errors.Join(failed, file.Sync()); err != nil {
		return err
	}
	failed = os.Rename(path+".tmp", path)
	directory, err := os.Open(filepath.Dir(path))
	return errors.Join(failed, err, directory.Sync(), directory.Close())
}

func (b *book) root(id []byte) *root {
	for i := range b.Roots {
		if sum := sha256.Sum256(b.Roots[i].Der); bytes.Equal(sum[:], id) {
			return &b.Roots[i]
		}
	}
	return nil
}

func template(role, domain string, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("Go example %s %x", role, serial)},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{{Scheme: "spiffe", Host: domain}},
	}
}

func (p *plugin) Handshake(_ context.Context, _ *pb.HandshakeRequest) (*pb.HandshakeResponse, error) {
	can := []string{"stage"}
	return &pb.HandshakeResponse{Version: 1, Name: "go-example", PluginVersion: "1", Capabilities: can}, nil
}

func (p *plugin) Check(_ context.Context, _ *pb.CheckRequest) (*pb.CheckResponse, error) {
	return &pb.CheckResponse{State: pb.HealthState_HEALTH_STATE_OK}, nil
}

func (p *plugin) Roots(_ context.Context, _ *pb.RootsRequest) (*pb.RootSet, error) {
	return over(p, func(b *book) (*pb.RootSet, error) {
		set := &pb.RootSet{Signing: b.Signing, Generation: b.Generation}
		for _, r := range b.Roots {
			set.Roots = append(set.Roots, r.Der)
		}
		return set, nil
	})
}

func (p *plugin) StageRoot(_ context.Context, q *pb.StageRootRequest) (*pb.StageRootResponse, error) {
	return over(p, func(b *book) (*pb.StageRootResponse, error) {
		answer := func(der []byte) *pb.StageRootResponse {
			return &pb.StageRootResponse{Outcome: &pb.StageRootResponse_Root{Root: der}}
		}
		asked := fmt.Sprintf("%s %d %s", q.TrustDomain, q.LifetimeSeconds, q.KeyType)
		for _, r := range b.Roots {
			if r.Request == q.RequestId && r.Asked == asked {
				return answer(r.Der), nil
			} else if r.Request == q.RequestId {
				return nil, status.Error(codes.AlreadyExists, "this request id was used for another root")
			}
		}
		curve, known := map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384()}[q.KeyType]
		if !known {
			return nil, status.Error(codes.InvalidArgument, "key types are p256 and p384")
		}
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		t := template("root", q.TrustDomain, time.Duration(q.LifetimeSeconds)*time.Second)
		der, failed := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
		stored, err := x509.MarshalECPrivateKey(key)
		b.Roots = append(b.Roots, root{q.RequestId, asked, q.TrustDomain, der, stored})
		b.Generation++
		return answer(der), errors.Join(failed, err)
	})
}

func (p *plugin) ActivateRoot(_ context.Context, q *pb.ActivateRootRequest) (*pb.ActivateRootResponse, error) {
	return over(p, func(b *book) (*pb.ActivateRootResponse, error) {
		if b.root(q.Root) == nil {
			return nil, status.Error(codes.NotFound, "this plugin has no such root")
		}
		if !bytes.Equal(b.Signing, q.Root) {
			b.Signing = q.Root
			b.Generation++
		}
		return &pb.ActivateRootResponse{}, nil
	})
}

func (p *plugin) SignIssuer(_ context.Context, q *pb.SignIssuerRequest) (*pb.SignIssuerResponse, error) {
	return over(p, func(b *book) (*pb.SignIssuerResponse, error) {
		answer := func(der []byte) *pb.SignIssuerResponse {
			chain := &pb.IssuerChain{Certificates: [][]byte{der}}
			return &pb.SignIssuerResponse{Outcome: &pb.SignIssuerResponse_Chain{Chain: chain}}
		}
		asked := fmt.Appendf(nil, "%x %x %s %d %d", q.Root, sha256.Sum256(q.Csr), q.TrustDomain, q.TtlSeconds, q.PathLen)
		if known, found := b.Issuers[q.RequestId]; found && bytes.Equal(known.Asked, asked) {
			return answer(known.Der), nil
		} else if found {
			return nil, status.Error(codes.AlreadyExists, "this request id was used for another issuer")
		}
		r := b.root(q.Root)
		csr, err := x509.ParseCertificateRequest(q.Csr)
		if r == nil || r.Domain != q.TrustDomain {
			return nil, status.Error(codes.PermissionDenied, "this plugin has no such root for that trust domain")
		} else if err != nil || csr.CheckSignature() != nil {
			return nil, status.Error(codes.InvalidArgument, "the CSR does not prove possession of its key")
		}
		above, failed := x509.ParseCertificate(r.Der)
		key, err := x509.ParseECPrivateKey(r.Key)
		if err := errors.Join(failed, err); err != nil {
			return nil, err
		}
		t := template("issuer", q.TrustDomain, time.Duration(q.TtlSeconds)*time.Second)
		t.MaxPathLen, t.MaxPathLenZero = int(q.PathLen), q.PathLen == 0
		if t.NotAfter.After(above.NotAfter) {
			return nil, status.Error(codes.FailedPrecondition, "the root ends before the issuer would")
		}
		der, err := x509.CreateCertificate(rand.Reader, t, above, csr.PublicKey, key)
		b.Issuers[q.RequestId] = issuer{asked, der}
		return answer(der), err
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
