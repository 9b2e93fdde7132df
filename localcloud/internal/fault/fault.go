// Package fault has the errors that EC2 clients know, and the troubles that a client can be given
// on purpose. It owns the codes and their HTTP status, and which call meets which trouble; how an
// error looks on the wire is the api package's job.
package fault

import (
	"fmt"
	"net/http"
)

// Error is an error of the EC2 API.
type Error struct {
	// Code is EC2's error code, such as InvalidVolume.NotFound.
	Code string
	// Message is for people.
	Message string
	// Status is the HTTP status, 0 for 400.
	Status int
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// HTTPStatus is the status of the response that carries the error.
func (e *Error) HTTPStatus() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// New returns an error with the given code.
func New(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// NotFound says that a thing of the given kind (as in EC2's code: Volume, Snapshot,
// AMIID, InstanceID, Group, ...) does not exist.
func NotFound(code, id string) *Error {
	return New(code+".NotFound", "'%s' does not exist", id)
}

// Missing says that a required parameter was not given.
func Missing(parameter string) *Error {
	return New("MissingParameter", "The request must contain the parameter %s", parameter)
}

// Invalid says that a parameter has a value that is not possible.
func Invalid(parameter, value, why string) *Error {
	return New("InvalidParameterValue", "Value (%s) for parameter %s is invalid. %s", value, parameter, why)
}
