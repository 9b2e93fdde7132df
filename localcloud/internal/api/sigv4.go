package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"rehost/localcloud/internal/fault"
)

// Credentials are the one key that the endpoint accepts.
type Credentials struct {
	AccessKeyID, SecretAccessKey string
}

const (
	algorithm = "AWS4-HMAC-SHA256"
	unsigned  = "UNSIGNED-PAYLOAD"
	dateForm  = "20060102T150405Z"
	// clockSkew is how far a request's time may be off, as at AWS.
	clockSkew = 15 * time.Minute
)

// scope is the parsed Authorization header.
type scope struct {
	key, date, region, service string
	signed                     []string
	signature                  string
}

// verify checks the signature (version 4) of a request. service is what the
// request is for: ec2, sts, or one with JSON, which name the same failures differently.
func (c Credentials) verify(r *http.Request, body []byte, service string, now time.Time) error {
	header := r.Header.Get("Authorization")
	if header == "" {
		return denied("MissingAuthenticationToken", "The request has no Authorization header", http.StatusForbidden)
	}
	s, ok := parseAuthorization(header)
	if !ok || !slices.Contains(s.signed, "host") || !slices.Contains(s.signed, "x-amz-date") {
		return denied("IncompleteSignature", "The Authorization header is not of version 4, or does not sign host and x-amz-date", http.StatusForbidden)
	}
	invalid, mismatch, status := "AuthFailure", "AuthFailure", http.StatusUnauthorized
	switch service {
	case "ec2":
	case "sts":
		invalid, mismatch, status = "InvalidClientTokenId", "SignatureDoesNotMatch", http.StatusForbidden
	default:
		invalid, mismatch, status = "UnrecognizedClientException", "InvalidSignatureException", http.StatusForbidden
	}
	if s.key != c.AccessKeyID {
		return denied(invalid, "AWS was not able to validate the provided access credentials: unknown access key", status)
	}
	at, err := time.Parse(dateForm, r.Header.Get("X-Amz-Date"))
	if err != nil || !strings.HasPrefix(r.Header.Get("X-Amz-Date"), s.date) || s.service != service {
		return denied(mismatch, "The credential scope does not fit the request", status)
	}
	if d := now.Sub(at); d > clockSkew || d < -clockSkew {
		return denied("RequestExpired", "Request has expired: check the clock", http.StatusBadRequest)
	}
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	given := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case given == unsigned && service == "ebs":
		payload = unsigned // a block has a checksum of its own
	case given != "" && given != payload:
		return denied(mismatch, "The body is not the one that was signed", status)
	}
	want := s.sign(c.SecretAccessKey, r, payload)
	if !hmac.Equal([]byte(want), []byte(s.signature)) {
		return denied(mismatch, "AWS was not able to validate the provided access credentials: the signature does not match", status)
	}
	return nil
}

func denied(code, message string, status int) error {
	return &fault.Error{Code: code, Message: message, Status: status}
}

func parseAuthorization(header string) (scope, bool) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return scope{}, false
	}
	var s scope
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch key {
		case "Credential":
			f := strings.Split(value, "/")
			if len(f) != 5 || f[4] != "aws4_request" {
				return scope{}, false
			}
			s.key, s.date, s.region, s.service = f[0], f[1], f[2], f[3]
		case "SignedHeaders":
			s.signed = strings.Split(value, ";")
		case "Signature":
			s.signature = value
		}
	}
	return s, s.key != "" && s.signature != ""
}

// sign returns the signature that the request should have.
func (s scope) sign(secret string, r *http.Request, payload string) string {
	var headers strings.Builder
	for _, name := range s.signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = r.Header.Get("Content-Length")
			if value == "" {
				value = formatLength(r.ContentLength)
			}
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	canonical := strings.Join([]string{
		r.Method, path, canonicalQuery(r.URL.Query()), headers.String(), strings.Join(s.signed, ";"), payload,
	}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	where := strings.Join([]string{s.date, s.region, s.service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, r.Header.Get("X-Amz-Date"), where, hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{s.date, s.region, s.service, "aws4_request", text} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// canonicalQuery differs from net/url's encoding in the blank only.
func canonicalQuery(q url.Values) string {
	for _, v := range q {
		slices.Sort(v)
	}
	return strings.ReplaceAll(q.Encode(), "+", "%20")
}
