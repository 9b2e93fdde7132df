package api

import (
	"net/http"
	"path"
	"strings"

	"rehost/localcloud/internal/fault"
)

// authorize refuses an action, such as ec2:CreateVolume, that the settings deny.
func (s *Server) authorize(service, action string) error {
	full := service + ":" + action
	for _, pattern := range s.Denied {
		if ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(full)); !ok && err == nil {
			continue
		}
		code := "UnauthorizedOperation"
		if service != "ec2" {
			code = "AccessDeniedException"
		}
		return &fault.Error{
			Code: code, Status: http.StatusForbidden,
			Message: "You are not authorized to perform this operation. User: " + s.caller().ARN + " is not authorized to perform: " + full +
				" because no identity-based policy allows the " + full + " action.",
		}
	}
	return nil
}

func (s *Server) caller() callerIdentity {
	return callerIdentity{ARN: "arn:aws:iam::" + s.Cloud.Account + ":user/rehost", UserID: s.Credentials.AccessKeyID, Account: s.Cloud.Account}
}
