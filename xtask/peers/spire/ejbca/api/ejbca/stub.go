// Package ejbca stands in for a client library that the module proxy does not serve. It has the names that SPIRE's
// `ejbca` plugin refers to, and can do nothing: a server that is configured with that plugin says so and does not start.
package ejbca

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
)

var errStub = errors.New("this build of SPIRE has no EJBCA client")

// Authenticator proves to an EJBCA who asks.
type Authenticator interface{}

// MTLSAuthenticatorBuilder would make an Authenticator of a certificate.
type MTLSAuthenticatorBuilder struct{}

// NewMTLSAuthenticatorBuilder gives a builder whose Build always fails.
func NewMTLSAuthenticatorBuilder() *MTLSAuthenticatorBuilder { return &MTLSAuthenticatorBuilder{} }

// WithClientCertificate changes nothing.
func (b *MTLSAuthenticatorBuilder) WithClientCertificate(*tls.Certificate) *MTLSAuthenticatorBuilder {
	return b
}

// WithCaCertificates changes nothing.
func (b *MTLSAuthenticatorBuilder) WithCaCertificates([]*x509.Certificate) *MTLSAuthenticatorBuilder {
	return b
}

// Build fails.
func (b *MTLSAuthenticatorBuilder) Build() (Authenticator, error) { return nil, errStub }

// Configuration would say where the EJBCA is.
type Configuration struct{ Host string }

// NewConfiguration gives an empty one.
func NewConfiguration() *Configuration { return &Configuration{} }

// SetAuthenticator changes nothing.
func (c *Configuration) SetAuthenticator(Authenticator) {}

// APIClient would call the EJBCA.
type APIClient struct{ V1CertificateApi *V1CertificateApi }

// NewAPIClient fails.
func NewAPIClient(*Configuration) (*APIClient, error) { return nil, errStub }

// V1CertificateApi would enroll certificates.
type V1CertificateApi struct{}

// EnrollPkcs10Certificate gives a request that fails.
func (*V1CertificateApi) EnrollPkcs10Certificate(context.Context) ApiEnrollPkcs10CertificateRequest {
	return ApiEnrollPkcs10CertificateRequest{}
}

// ApiEnrollPkcs10CertificateRequest is a request that fails.
type ApiEnrollPkcs10CertificateRequest struct{}

// EnrollCertificateRestRequest changes nothing.
func (r ApiEnrollPkcs10CertificateRequest) EnrollCertificateRestRequest(EnrollCertificateRestRequest) ApiEnrollPkcs10CertificateRequest {
	return r
}

// Execute fails.
func (ApiEnrollPkcs10CertificateRequest) Execute() (*CertificateRestResponse, *http.Response, error) {
	return nil, nil, errStub
}

// EnrollCertificateRestRequest would be what to enroll.
type EnrollCertificateRestRequest struct{}

// NewEnrollCertificateRestRequest gives an empty one.
func NewEnrollCertificateRestRequest() *EnrollCertificateRestRequest {
	return &EnrollCertificateRestRequest{}
}

// The setters change nothing.
func (*EnrollCertificateRestRequest) SetUsername(string)                 {}
func (*EnrollCertificateRestRequest) SetPassword(string)                 {}
func (*EnrollCertificateRestRequest) SetCertificateRequest(string)       {}
func (*EnrollCertificateRestRequest) SetCertificateAuthorityName(string) {}
func (*EnrollCertificateRestRequest) SetCertificateProfileName(string)   {}
func (*EnrollCertificateRestRequest) SetEndEntityProfileName(string)     {}
func (*EnrollCertificateRestRequest) SetIncludeChain(bool)               {}
func (*EnrollCertificateRestRequest) SetAccountBindingId(string)         {}

// CertificateRestResponse would be what was enrolled.
type CertificateRestResponse struct{ CertificateChain []string }

// GetResponseFormat is empty.
func (*CertificateRestResponse) GetResponseFormat() string { return "" }

// GetCertificate is empty.
func (*CertificateRestResponse) GetCertificate() string { return "" }

// GenericOpenAPIError is an error that never comes.
type GenericOpenAPIError struct{}

func (*GenericOpenAPIError) Error() string { return errStub.Error() }

// Body is empty.
func (*GenericOpenAPIError) Body() []byte { return nil }
