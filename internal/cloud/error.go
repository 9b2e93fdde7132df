package cloud

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"rehost/internal/hint"
)

// Error is a refusal by EC2, with its code.
type Error struct {
	Op      string // what was attempted
	Code    string // EC2's error code
	Request string // EC2's request id
	Missing string // the action that a policy must allow, such as ec2:CreateTags, when the caller may not; else empty
	On      string // the ARN of what the action was refused on, when it is said
	err     error
}

func (e *Error) Error() string {
	if e.err == nil {
		return e.Op + ": " + e.Code
	}
	return e.Op + ": " + e.err.Error()
}

// Unwrap returns the SDK's error.
func (e *Error) Unwrap() error { return e.err }

// NotFound says that the thing does not exist (any more).
func NotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (strings.HasSuffix(e.Code, ".NotFound") || strings.HasSuffix(e.Code, ".NotFoundException") || e.Code == "InvalidAMIID.Unavailable" ||
		e.Code == "ResourceNotFoundException")
}

// Throttled says that EC2 asked for patience, or has no capacity now, or trouble of its own.
func Throttled(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "SnapshotCreationPerVolumeRateExceeded",
		"InsufficientInstanceCapacity", "InsufficientVolumeCapacity", "ConcurrentSnapshotLimitExceeded", "PendingSnapshotLimitExceeded",
		"Unavailable", "ServiceUnavailable", "InternalError", "InternalFailure",
		"RequestThrottledException", "InternalServerException": // EBS's words
		return true
	}
	return false
}

// Permanent says that the same call will be refused again: a person must change something.
func Permanent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || Throttled(err) || Expired(err) {
		return false
	}
	switch e.Code {
	case "InvalidInstanceID.NotFound", "InvalidVolume.NotFound", "InvalidSnapshot.NotFound", "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable",
		"InvalidGroup.NotFound", "InvalidSnapshot.InUse", "InvalidGroup.InUse":
		return false // EC2 shows what is new, and that something is gone, late
	case "UnauthorizedOperation", "AccessDenied", "AuthFailure", "OptInRequired", "Blocked", "UnsupportedOperation", "Unsupported",
		"AccessDeniedException", "ValidationException", "UnrecognizedClientException": // EBS's words
		return true
	}
	return strings.HasPrefix(e.Code, "Invalid") || strings.HasPrefix(e.Code, "Missing") || strings.HasSuffix(e.Code, "LimitExceeded")
}

// Missing returns the action that a policy must allow for what was refused; empty: it was not refused for that.
func Missing(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Missing
	}
	return ""
}

// NoImage says that there is no image of the name or id that was asked for.
func NoImage(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && strings.HasPrefix(e.Code, "InvalidAMIID.")
}

// NoProfile says that there is no instance profile of the name that was asked for.
func NoProfile(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && hintOfProfile(e.Error()) != ""
}

// Quota says that a limit of the account is reached: the same call is done when something else has gone, or the limit was raised.
func Quota(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && strings.HasSuffix(e.Code, "LimitExceeded") && !Throttled(err)
}

// expiredCodes are what EC2 and STS say of credentials that were right once.
var expiredCodes = []string{"RequestExpired", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}

// Expired says that there are no valid credentials now: a person or the instance's role will
// renew them, and the same call is done then.
func Expired(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return expired(err) || (ok && slices.Contains(expiredCodes, e.Code))
}

func expired(err error) bool {
	if err == nil {
		return false
	}
	_, none := errors.AsType[*noCredentials](err)
	return none || slices.Contains(expiredCodes, code(err))
}

// unanswered says that nobody knows whether a call was done: its answer was lost, or EC2 failed inside.
func unanswered(err error) bool {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.HTTPStatusCode() > 0 {
		return e.HTTPStatusCode() >= http.StatusInternalServerError && !throttles.IsErrorThrottle(err).Bool()
	}
	_, lost := errors.AsType[*smithyhttp.RequestSendError](err)
	_, torn := errors.AsType[*smithy.DeserializationError](err)
	return lost || torn || errors.Is(err, io.ErrUnexpectedEOF)
}

// renew is the hint for credentials that have expired.
const renew = "renew the credentials (`credentials_file` or `profile` in the controller's cloud block, or the role of its instance); what waits goes on by itself"

// hints by error code: imperative, and naming what to touch.
var hints = map[string]string{
	"AuthFailure":                       "check the access key and the clock of this machine, and `credentials_file` in the controller's cloud block",
	"InsufficientInstanceCapacity":      "wait, or set another `instance_type` or `subnet` in the replication or launch block that asks for it",
	"InvalidSubnetID.NotFound":          "set `subnet` to one that exists in the region",
	"InvalidParameterValue":             "compare the value named above with EC2's documentation of the call",
	"Unsupported":                       "set an `instance_type` that supports the image's boot mode and architecture",
	"InvalidParameterCombination":       "set an `instance_type` that supports the image's boot mode and architecture",
	"InvalidBlockDeviceMapping":         "check the volume sizes of the launch: none may be smaller than its snapshot",
	"InvalidInstanceType":               "set `instance_type` to one that the region offers",
	"PendingVerification":               "wait until AWS has verified the account for this region",
	"InvalidClientTokenId":              "check the access key in `credentials_file`",
	"SignatureDoesNotMatch":             "check the secret key in `credentials_file`",
	"UnrecognizedClientException":       "check the access key in `credentials_file`",
	"InvalidSignatureException":         "check the secret key in `credentials_file` and the clock of this machine",
	"InsufficientFreeAddressesInSubnet": "choose a `subnet` with free addresses",
}

// fail wraps err with what was attempted, EC2's code and a hint; nil stays nil.
func fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	op := fmt.Sprintf(format, args...)
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		e := &Error{Op: op, Code: api.ErrorCode(), err: err}
		if re, ok := errors.AsType[*awshttp.ResponseError](err); ok {
			e.Request = re.ServiceRequestID()
		}
		return hinted(e, api, err)
	}
	wrapped := fmt.Errorf("%s: %w", op, err)
	if expired(err) {
		return hint.Wrap(wrapped, renew)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return hint.Wrap(wrapped, "check that the `endpoint` of the controller's cloud block answers from this machine")
	}
	return wrapped
}

// hinted adds what a person can do about an error of EC2, when that is known.
func hinted(e *Error, api smithy.APIError, err error) error {
	service, operation := "", ""
	if o, ok := errors.AsType[*smithy.OperationError](err); ok {
		service, operation = o.ServiceID, o.OperationName
	}
	if slices.Contains(deniedCodes, e.Code) {
		e.Missing, e.On = missingAction(service, operation, api.ErrorMessage()), deniedOn(api.ErrorMessage())
	}
	texts := []string{hintOfDenial(e.Missing), hintOfQuota(e.Code, api.ErrorMessage()), hintOfProfile(api.ErrorMessage()), hints[e.Code]}
	if expired(err) {
		texts = []string{renew}
	}
	for _, text := range texts {
		if text != "" {
			return hint.Wrap(e, text)
		}
	}
	return e
}

// hintOfProfile knows EC2's words about an instance profile that is not there: their code is that of any wrong value.
func hintOfProfile(message string) string {
	if !strings.Contains(message, "Invalid IAM Instance Profile") {
		return ""
	}
	return "set `instance_profile` in the launch block to the name or ARN of an instance profile of the account, not its role's: `aws iam list-instance-profiles` shows both"
}

// code returns EC2's error code of err, or "".
func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}
