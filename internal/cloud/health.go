package cloud

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Impairment says what EC2's own checks have found wrong with an instance; empty: nothing, or it is not known yet.
func (c *Client) Impairment(ctx context.Context, instance string) (string, error) {
	out, err := c.ec2.DescribeInstanceStatus(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: []string{instance}, IncludeAllInstances: aws.Bool(true)})
	if err != nil {
		return "", fail(err, "look at the health of instance %s", instance)
	}
	for _, s := range out.InstanceStatuses {
		for _, check := range []struct {
			what    string
			summary *types.InstanceStatusSummary
		}{{"the cloud's check of its host", s.SystemStatus}, {"the cloud's check of the instance", s.InstanceStatus}} {
			if check.summary != nil && check.summary.Status == types.SummaryStatusImpaired {
				return check.what + " fails", nil
			}
		}
	}
	return "", nil
}
