package cloud

import (
	"testing"

	"github.com/aws/smithy-go"
)

// TestWhatEC2ShowsLateIsNotPermanent: a job that gave up at the first such answer would leave things behind.
func TestWhatEC2ShowsLateIsNotPermanent(t *testing.T) {
	for code, want := range map[string]bool{
		"InvalidInstanceID.NotFound": false, "InvalidVolume.NotFound": false, "InvalidSnapshot.InUse": false, "InvalidAMIID.Unavailable": false,
		"IncorrectState": false, "InsufficientInstanceCapacity": false,
		"InvalidSubnetID.NotFound": true, "InvalidParameterValue": true, "VolumeLimitExceeded": true, "UnauthorizedOperation": true,
		// The EBS direct APIs' words.
		"ResourceNotFoundException": false, "RequestThrottledException": false, "ThrottlingException": false, "InternalServerException": false,
		"AccessDeniedException": true, "ValidationException": true, "InvalidSignatureException": true, "UnrecognizedClientException": true,
	} {
		if got := Permanent(fail(&smithy.GenericAPIError{Code: code}, "try")); got != want {
			t.Errorf("%s: got permanent %v", code, got)
		}
	}
}
