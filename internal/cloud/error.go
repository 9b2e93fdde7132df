package cloud

import (
	"errors"
	"fmt"
	"net"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"rehost/internal/hint"
)

// Error is a refusal by EC2, with its code.
type Error struct {
	Op      string // what was attempted
	Code    string // EC2's error code
	Request string // EC2's request id
	err     error
}

func (e *Error) Error() string { return e.Op + ": " + e.err.Error() }

// Unwrap returns the SDK's error.
func (e *Error) Unwrap() error { return e.err }

// NotFound says that the thing does not exist (any more).
func NotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (strings.HasSuffix(e.Code, ".NotFound") || strings.HasSuffix(e.Code, ".NotFoundException") || e.Code == "InvalidAMIID.Unavailable")
}

// Throttled says that EC2 asked for patience, or has no capacity now.
func Throttled(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "SnapshotCreationPerVolumeRateExceeded",
		"InsufficientInstanceCapacity", "InsufficientVolumeCapacity", "ConcurrentSnapshotLimitExceeded":
		return true
	}
	return false
}

// Permanent says that the same call will be refused again: a person must change something.
func Permanent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || Throttled(err) {
		return false
	}
	switch e.Code {
	case "InvalidInstanceID.NotFound", "InvalidVolume.NotFound", "InvalidSnapshot.NotFound", "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable",
		"InvalidGroup.NotFound", "InvalidSnapshot.InUse", "InvalidGroup.InUse":
		return false // EC2 shows what is new, and that something is gone, late
	case "UnauthorizedOperation", "AuthFailure", "OptInRequired", "Blocked", "UnsupportedOperation", "Unsupported":
		return true
	}
	return strings.HasPrefix(e.Code, "Invalid") || strings.HasPrefix(e.Code, "Missing") || strings.HasSuffix(e.Code, "LimitExceeded")
}

// hints by error code: imperative, and naming what to touch.
var hints = map[string]string{
	"UnauthorizedOperation":             "grant the action named above to the controller's credentials; the response's encoded message has the details (`aws sts decode-authorization-message`)",
	"AuthFailure":                       "check the access key and the clock of this machine, and `credentials_file` in the controller's cloud block",
	"RequestExpired":                    "renew the credentials; the job waits and goes on by itself",
	"ExpiredToken":                      "renew the credentials; the job waits and goes on by itself",
	"VcpuLimitExceeded":                 "raise the vCPU quota of the instance family in Service Quotas, or set a smaller `instance_type` in the launch block",
	"InstanceLimitExceeded":             "raise the instance quota in Service Quotas",
	"VolumeLimitExceeded":               "raise the EBS volume quota in Service Quotas, or remove unused volumes",
	"SnapshotLimitExceeded":             "raise the EBS snapshot quota in Service Quotas, or remove old points",
	"InsufficientInstanceCapacity":      "set another `instance_type` or `subnet` in the launch block",
	"InvalidSubnetID.NotFound":          "set `subnet` to one that exists in the region",
	"InvalidParameterValue":             "compare the value named above with EC2's documentation of the call",
	"Unsupported":                       "set an `instance_type` that supports the image's boot mode and architecture",
	"InvalidParameterCombination":       "set an `instance_type` that supports the image's boot mode and architecture",
	"InvalidBlockDeviceMapping":         "check the volume sizes of the launch: none may be smaller than its snapshot",
	"InvalidInstanceType":               "set `instance_type` to one that the region offers",
	"PendingVerification":               "wait until AWS has verified the account for this region",
	"InvalidClientTokenId":              "check the access key in `credentials_file`",
	"SignatureDoesNotMatch":             "check the secret key in `credentials_file`",
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
		if text, ok := hints[e.Code]; ok {
			return hint.Wrap(e, text)
		}
		return e
	}
	wrapped := fmt.Errorf("%s: %w", op, err)
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return hint.Wrap(wrapped, "check that the `endpoint` of the controller's cloud block answers from this machine")
	}
	return wrapped
}

// code returns EC2's error code of err, or "".
func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}
