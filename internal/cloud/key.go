package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// UnfitKey is why a key of KMS cannot encrypt volumes.
type UnfitKey struct{ Name, Why string }

func (e *UnfitKey) Error() string { return fmt.Sprintf("KMS key %s %s", e.Name, e.Why) }

// Key returns nil when a key of KMS exists in the region, is enabled and is of the kind that EBS takes, an [UnfitKey] when not, and
// another error when KMS does not say. Whether the key's own policy lets EC2 use it, KMS says to EC2 only.
func (c *Client) Key(ctx context.Context, name string) error {
	if f := strings.Split(name, ":"); len(f) > 3 && f[0] == "arn" && f[3] != c.region {
		return &UnfitKey{name, "is in " + f[3] + ", the volumes are in " + c.region}
	}
	out, err := c.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(name)})
	if err = fail(err, "look at KMS key %s", name); err != nil {
		if e, ok := errors.AsType[*Error](err); ok && (e.Code == "NotFoundException" || e.Code == "InvalidArnException") {
			return &UnfitKey{name, "does not exist in " + c.region}
		}
		return err
	}
	m := out.KeyMetadata
	switch {
	case m.KeyState != types.KeyStateEnabled:
		return &UnfitKey{name, "is in the state " + string(m.KeyState)}
	case m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.KeySpec != types.KeySpecSymmetricDefault:
		return &UnfitKey{name, fmt.Sprintf("is for %s with %s; EBS takes symmetric keys for encryption", m.KeyUsage, m.KeySpec)}
	}
	return nil
}
