// Package api is the wire of the local cloud: EC2's query protocol, its
// signatures, XML, filters, pages and error codes. It turns a request into a
// verb of the cloud package and its result into XML, and decides nothing else.
package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/localcloud/internal/cloud"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

const (
	// apiVersion is the only version of the EC2 API there is.
	apiVersion = "2016-11-15"
	ec2Space   = "http://ec2.amazonaws.com/doc/2016-11-15/"
	stsSpace   = "https://sts.amazonaws.com/doc/2011-06-15/"
	// largestBody bounds a request; user data has at most 16 KiB, a block of a snapshot 512 KiB.
	largestBody = 1 << 20
)

// The AWS SDK for Go closes a request's body as soon as it sees the answer's
// head, while net/http may still be about to look for the body's end; then the
// connection breaks in the middle of an answer that takes several reads. No
// server is near enough to see this but one on the same machine, so a long
// answer waits a moment.
const (
	shortAnswer  = 2 << 10
	lingerMoment = 3 * time.Millisecond
)

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Server answers calls of EC2, STS, the EBS direct APIs, and a few of KMS and Service Quotas.
type Server struct {
	Cloud       *cloud.Cloud
	Credentials Credentials
	// Endpoint is the server's own URL.
	Endpoint string
	// Faults are the troubles that clients meet; nil: none.
	Faults *fault.Injector
	// Denied are patterns of actions, such as ec2:Create*, that the caller may not call.
	Denied []string
	// Profiles are the names of the instance profiles that there are; none: every well-formed name is one.
	Profiles []string
	Log      hclog.Logger
}

// action answers one call. Its result is encoded as the body of the response.
type action func(ctx context.Context, s *Server, st *state.State, p params) (any, error)

// actions are the calls on offer.
var actions = map[string]action{
	"CreateVolume": createVolume, "DescribeVolumes": describeVolumes, "DeleteVolume": deleteVolume,
	"AttachVolume": attachVolume, "DetachVolume": detachVolume,
	"ModifyVolume": modifyVolume, "DescribeVolumesModifications": describeModifications,
	"CreateSnapshot": createSnapshot, "CreateSnapshots": createSnapshots, "DescribeSnapshots": describeSnapshots, "DeleteSnapshot": deleteSnapshot,
	"RegisterImage": registerImage, "DescribeImages": describeImages, "DeregisterImage": deregisterImage,
	"RunInstances": runInstances, "DescribeInstances": describeInstances, "DescribeInstanceStatus": describeInstanceStatus,
	"StartInstances": startInstances, "StopInstances": stopInstances, "TerminateInstances": terminateInstances, "RebootInstances": rebootInstances,
	"GetConsoleOutput": consoleOutput, "GetConsoleScreenshot": consoleScreenshot,
	"ModifyInstanceAttribute": modifyInstance, "DescribeInstanceAttribute": describeInstanceAttribute,
	"CreateKeyPair": createKey, "ImportKeyPair": importKey, "DescribeKeyPairs": describeKeys, "DeleteKeyPair": deleteKey,
	"CreateLaunchTemplate": createTemplate, "DescribeLaunchTemplates": describeTemplates, "ModifyLaunchTemplate": modifyTemplate,
	"DeleteLaunchTemplate": deleteTemplate, "CreateLaunchTemplateVersion": createTemplateVersion,
	"DescribeLaunchTemplateVersions": describeTemplateVersions, "DeleteLaunchTemplateVersions": deleteTemplateVersions,
	"DescribeInstanceTypes": describeInstanceTypes, "DescribeInstanceTypeOfferings": describeOfferings,
	"DescribeAccountAttributes": describeAccount,
	"DescribeSubnets":           describeSubnets, "DescribeVpcs": describeVPCs,
	"DescribeAvailabilityZones": describeZones, "DescribeRegions": describeRegions,
	"CreateSecurityGroup": createGroup, "DescribeSecurityGroups": describeGroups, "DeleteSecurityGroup": deleteGroup,
	"AuthorizeSecurityGroupIngress": allow(false), "AuthorizeSecurityGroupEgress": allow(true),
	"RevokeSecurityGroupIngress": revoke(false), "RevokeSecurityGroupEgress": revoke(true),
	"DescribeSecurityGroupRules": describeRules,
	"CreateTags":                 createTags, "DeleteTags": deleteTags, "DescribeTags": describeTags,
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/snapshots") {
		s.ebsHandler().ServeHTTP(w, r)
		return
	}
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		s.serveTarget(w, r, target)
		return
	}
	id := requestID()
	began := time.Now()
	form, body, err := readForm(r)
	name, service, space := form.Get("Action"), "ec2", ec2Space
	if form.Get("Version") == "2011-06-15" {
		service, space = "sts", stsSpace
	}
	var result any
	if err == nil {
		err = s.Credentials.verify(r, body, service, time.Now())
	}
	if err == nil {
		result, err = troubled(r.Context(), s.Faults, name, form, func() (any, error) { return s.call(r.Context(), service, name, form) })
	}
	var out []byte
	if err == nil {
		out, err = encode(name, space, service, id, result)
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.Header().Set("X-Amzn-Requestid", id)
	if err != nil {
		s.fail(w, service, name, id, err)
		return
	}
	s.Log.Trace("call", "action", name, "ms", time.Since(began).Milliseconds())
	if len(out) > shortAnswer {
		pause(r.Context(), lingerMoment)
	}
	// With a length the client sees the end with the last byte, not in a chunk after it.
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	_, _ = w.Write(out)
}

// troubled makes a call as the plan of faults lets it; request tells the same call from another one.
func troubled[T any](ctx context.Context, faults *fault.Injector, name string, request url.Values, call func() (T, error)) (T, error) {
	var none T
	if d := faults.Delay(); d > 0 {
		pause(ctx, d)
	}
	if err := faults.Before(name, request.Get("DryRun") == "true"); err != nil {
		return none, err
	}
	result, err := call()
	if err != nil {
		return none, err
	}
	lost, err := faults.After(name, request)
	if lost {
		panic(http.ErrAbortHandler) // cuts the connection
	}
	return result, err
}

func (s *Server) call(ctx context.Context, service, name string, form url.Values) (any, error) {
	if service == "sts" {
		if name != "GetCallerIdentity" {
			return nil, fault.New("InvalidAction", "Could not find operation %s for version 2011-06-15", name)
		}
		return s.caller(), nil
	}
	if name == "" {
		return nil, fault.Missing("Action")
	}
	act := actions[name]
	if act == nil || form.Get("Version") != apiVersion {
		return nil, fault.New("InvalidAction", "The action %s is not valid for version %s of this web service", name, form.Get("Version"))
	}
	p := newParams(form)
	if err := s.authorize(service, name); err != nil {
		return nil, err
	}
	if err := s.authorizeParts(p); err != nil {
		return nil, err
	}
	if p.boolean("DryRun") && *p.err == nil {
		// As EC2 does, say so before looking whether the things exist.
		return nil, &fault.Error{Code: "DryRunOperation", Message: "Request would have succeeded, but DryRun flag is set.", Status: http.StatusPreconditionFailed}
	}
	if err := p.checkIDs(); err != nil {
		return nil, err
	}
	result, err := act(ctx, s, s.Cloud.Store.View(), p)
	if err == nil {
		err = *p.err
	}
	return result, err
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, largestBody+1))
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	if len(body) > largestBody {
		return nil, &fault.Error{Code: "RequestEntityTooLarge", Message: "The request is too large", Status: http.StatusRequestEntityTooLarge}
	}
	return body, nil
}

func readForm(r *http.Request) (url.Values, []byte, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, nil, fault.New("MalformedQueryString", "The request is not a form: %s", err)
	}
	maps.Copy(form, r.URL.Query())
	return form, body, nil
}

// encode wraps a result as EC2 does: the request id comes first, the members follow.
func encode(name, space, service, id string, result any) ([]byte, error) {
	if result == nil {
		result = done{Return: true}
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	enc := xml.NewEncoder(&b)
	if service == "sts" {
		result = stsAnswer{Result: result, RequestID: id}
	}
	start := xml.StartElement{Name: xml.Name{Local: name + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: space}}}
	if err := enc.EncodeElement(result, start); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	if service == "sts" {
		return b.Bytes(), nil
	}
	head, rest, _ := bytes.Cut(b.Bytes()[len(xml.Header):], []byte(">"))
	return fmt.Appendf(nil, "%s%s><requestId>%s</requestId>%s", xml.Header, head, id, rest), nil
}

func (s *Server) fail(w http.ResponseWriter, service, name, id string, err error) {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		s.Log.Error("call did not succeed", "action", name, "error", err)
		f = &fault.Error{Code: "InternalError", Message: err.Error(), Status: http.StatusInternalServerError}
	}
	s.Log.Debug("call refused", "action", name, "code", f.Code, "message", f.Message)
	var answer any = ec2Errors{Errors: []wireError{{Code: f.Code, Message: f.Message}}, RequestID: id}
	if service == "sts" {
		answer = stsErrors{Type: "Sender", Code: f.Code, Message: f.Message, RequestID: id}
	}
	w.WriteHeader(f.HTTPStatus())
	_, _ = io.WriteString(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(answer)
}

type wireError struct {
	Code    string
	Message string
}

type ec2Errors struct {
	XMLName   xml.Name    `xml:"Response"`
	Errors    []wireError `xml:"Errors>Error"`
	RequestID string
}

type stsErrors struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

type stsAnswer struct {
	Result    any    `xml:"GetCallerIdentityResult"`
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

type callerIdentity struct {
	ARN     string `xml:"Arn"`
	UserID  string `xml:"UserId"`
	Account string
}

// done is the answer of calls that return nothing.
type done struct {
	Return bool `xml:"return"`
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func formatLength(n int64) string { return strconv.FormatInt(max(n, 0), 10) }
