package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rehost/localcloud/internal/fault"
)

// KMS and Service Quotas have JSON, and name their calls in a header. They share the endpoint, since that header says which
// service is meant.

// targets are the services by their names in the header.
var targets = map[string]string{"TrentService": "kms", "ServiceQuotasV20190624": "servicequotas"}

// targetActions are the calls on offer.
var targetActions = map[string]func(s *Server, body []byte) (any, error){
	"kms:DescribeKey":                         describeKey,
	"servicequotas:GetServiceQuota":           getQuota,
	"servicequotas:GetAWSDefaultServiceQuota": getQuota,
}

func (s *Server) serveTarget(w http.ResponseWriter, r *http.Request, target string) {
	name, action, _ := strings.Cut(target, ".")
	answer, err := s.callTarget(r, targets[name], action)
	status := http.StatusOK
	if err != nil {
		f, ok := errors.AsType[*fault.Error](err)
		if !ok {
			s.Log.Error("call did not succeed", "action", action, "error", err)
			f = &fault.Error{Code: "InternalServerException", Message: err.Error(), Status: http.StatusInternalServerError}
		}
		f = ebsTrouble(action, f)
		s.Log.Debug("call refused", "action", action, "code", f.Code, "message", f.Message)
		status, answer = f.HTTPStatus(), map[string]string{"__type": f.Code, "message": f.Message}
	}
	text, _ := json.Marshal(answer) // of types that can be marshalled
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", requestID())
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

func (s *Server) callTarget(r *http.Request, service, action string) (any, error) {
	body, err := readBody(r)
	if err == nil {
		err = s.Credentials.verify(r, body, service, time.Now())
	}
	if err != nil {
		return nil, err
	}
	act := targetActions[service+":"+action]
	if act == nil {
		return nil, fault.New("UnknownOperationException", "The local cloud has no call %s of %s", action, service)
	}
	return troubled(r.Context(), s.Faults, action, r.URL.Query(), func() (any, error) {
		if err := s.authorize(service, action); err != nil {
			return nil, err
		}
		return act(s, body)
	})
}

func describeKey(s *Server, body []byte) (any, error) {
	var in struct{ KeyId string } //nolint:revive // KMS's own name
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fault.New("SerializationException", "The request is no JSON: %s", err)
	}
	key, err := s.Cloud.Key(in.KeyId)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyMetadata": map[string]any{
		"KeyId": key.ID, "Arn": key.ARN, "AWSAccountId": s.Cloud.Account, "Enabled": key.State == "Enabled", "KeyState": key.State,
		"KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT", "KeyManager": "CUSTOMER",
	}}, nil
}

func getQuota(s *Server, body []byte) (any, error) {
	var in struct{ ServiceCode, QuotaCode string }
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fault.New("SerializationException", "The request is no JSON: %s", err)
	}
	value, err := s.Cloud.Quotas.Value(in.ServiceCode, in.QuotaCode)
	if err != nil {
		return nil, err
	}
	return map[string]any{"Quota": map[string]any{"ServiceCode": in.ServiceCode, "QuotaCode": in.QuotaCode, "Value": value, "Adjustable": true, "Unit": "None"}}, nil
}
