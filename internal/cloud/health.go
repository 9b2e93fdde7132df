package cloud

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// StatusChecks says how EC2's own checks of an instance stand, in its words: ok, impaired, initializing, insufficient-data, not-applicable. system is that of
// its host, own that of the instance, which must answer on its network. Both are empty while EC2 says nothing.
func (c *Client) StatusChecks(ctx context.Context, instance string) (system, own string, err error) {
	out, err := c.ec2.DescribeInstanceStatus(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: []string{instance}, IncludeAllInstances: aws.Bool(true)})
	if err != nil {
		return "", "", fail(err, "look at the health of instance %s", instance)
	}
	status := func(s *types.InstanceStatusSummary) string {
		if s == nil {
			return ""
		}
		return string(s.Status)
	}
	for _, s := range out.InstanceStatuses {
		system, own = status(s.SystemStatus), status(s.InstanceStatus)
	}
	return system, own, nil
}

// Impairment says what EC2's own checks have found wrong with an instance; empty: nothing, or it is not known yet.
func (c *Client) Impairment(ctx context.Context, instance string) (string, error) {
	system, own, err := c.StatusChecks(ctx, instance)
	switch impaired := string(types.SummaryStatusImpaired); {
	case err != nil:
		return "", err
	case system == impaired:
		return "the cloud's check of its host fails", nil
	case own == impaired:
		return "the cloud's check of the instance fails", nil
	}
	return "", nil
}
