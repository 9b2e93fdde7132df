package api

import (
	"net/http"
	"path"
	"slices"
	"strings"

	"rehost/localcloud/internal/fault"
)

// refused says that the settings deny an action, such as ec2:CreateVolume.
func (s *Server) refused(action string) bool {
	return slices.ContainsFunc(s.Denied, func(pattern string) bool {
		ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(action))
		return ok || err != nil
	})
}

// authorize refuses an action that the settings deny.
func (s *Server) authorize(service, action string) error {
	full := service + ":" + action
	if !s.refused(full) {
		return nil
	}
	code := "UnauthorizedOperation"
	if service != "ec2" {
		code = "AccessDeniedException"
	}
	return s.denial(code, full)
}

// authorizeParts refuses a call of EC2 for what it does on the way: to tag what it makes, and to give an instance a role. A profile is
// looked up before that, since only it says which role is meant.
func (s *Server) authorizeParts(p params) error {
	if p.has("TagSpecification.1.Tag.1.Key") && s.refused("ec2:CreateTags") {
		return s.denial("UnauthorizedOperation", "ec2:CreateTags")
	}
	if profile(s, p) != "" && *p.err == nil && s.refused("iam:PassRole") {
		return s.denial("UnauthorizedOperation", "iam:PassRole")
	}
	return *p.err
}

func (s *Server) denial(code, action string) error {
	on := ""
	if action == "ec2:RunInstances" { // of its many resources EC2 names the first that no policy allows
		on = " on resource: arn:aws:ec2:" + s.Cloud.Region + ":" + s.Cloud.Account + ":instance/*"
	}
	return &fault.Error{
		Code: code, Status: http.StatusForbidden,
		Message: "You are not authorized to perform this operation. User: " + s.caller().ARN + " is not authorized to perform: " + action + on +
			" because no identity-based policy allows the " + action + " action.",
	}
}

func (s *Server) caller() callerIdentity {
	return callerIdentity{ARN: "arn:aws:iam::" + s.Cloud.Account + ":user/rehost", UserID: s.Credentials.AccessKeyID, Account: s.Cloud.Account}
}
