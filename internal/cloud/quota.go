package cloud

import (
	"fmt"
	"regexp"
	"strings"
)

// quota is a limit of an account in a region that one can ask AWS to raise.
type quota struct {
	service string // in Service Quotas: ec2, ebs, vpc
	name    string // as Service Quotas shows it
	instead string // what else helps
}

// quotas by the error code that says that one is used up.
var quotas = map[string]quota{
	"VcpuLimitExceeded":                      {"ec2", "Running On-Demand instances of the type's family (vCPUs)", "set a smaller `instance_type`, or lower the wave's concurrency"},
	"MaxSpotInstanceCountExceeded":           {"ec2", "All Spot Instance Requests of the type's family (vCPUs)", "set another `instance_type`"},
	"InstanceLimitExceeded":                  {"ec2", "Running On-Demand instances of the type's family (vCPUs)", "terminate test instances that nobody needs"},
	"VolumeLimitExceeded":                    {"ebs", "Storage for volumes of the type, in TiB", "finalize servers that are cut over, or set another `volume_type`"},
	"MaxIOPSLimitExceeded":                   {"ebs", "IOPS for Provisioned IOPS SSD volumes", "set `volume_type` to gp3, or fewer `volume_iops`"},
	"SnapshotLimitExceeded":                  {"ebs", "Snapshots per Region", "lower `keep` in the points block of the replication block"},
	"ConcurrentSnapshotLimitExceeded":        {"ebs", "Concurrent snapshots per volume of the type", "take points less often: `every` in the points block"},
	"PendingSnapshotLimitExceeded":           {"ebs", "Pending snapshots per account", "take points less often: `every` in the points block"},
	"SecurityGroupLimitExceeded":             {"vpc", "VPC security groups per Region", "let servers share a launch block: each has one group"},
	"RulesPerSecurityGroupLimitExceeded":     {"vpc", "Inbound or outbound rules per security group", "open fewer `ingress_ports`"},
	"SecurityGroupsPerInstanceLimitExceeded": {"vpc", "Security groups per network interface", "name fewer security groups"},
	"NetworkInterfaceLimitExceeded":          {"vpc", "Network interfaces per Region", "terminate instances that nobody needs"},
	"AddressLimitExceeded":                   {"ec2", "EC2-VPC Elastic IPs", "release addresses that nobody needs"},
	"AttachmentLimitExceeded":                {"ec2", "volumes on one instance (fixed by the instance type)", "lower `volumes_per_server` in the replication block"},
	"ResourceLimitExceeded":                  {"ec2", "the one that the message names", "remove what nobody needs"},
	"AMIQuotaExceeded":                       {"ec2", "AMIs", "terminate tests that nobody needs: rehost wave terminate"},
}

// amounts are how EC2's messages say how much a quota is.
var amounts = regexp.MustCompile(`(?i)(?:limit|quota|maximum)[^.0-9]{0,60}?(\d[\d,]*)`)

// hintOfQuota says which quota is used up, how much it is and where to raise it; "" for other errors.
func hintOfQuota(code, message string) string {
	q, ok := quotas[code]
	if !ok {
		return ""
	}
	amount := ""
	if m := amounts.FindStringSubmatch(message); m != nil {
		amount = ", which is " + m[1] + " now"
	}
	if code == "AttachmentLimitExceeded" { // no request raises it
		return fmt.Sprintf("%s: the limit is %s%s", q.instead, q.name, amount)
	}
	return fmt.Sprintf("raise the quota %q of service %s%s: Service Quotas in the AWS console of the target account and region, or `aws service-quotas "+
		"request-service-quota-increase`; or %s", q.name, q.service, amount, q.instead)
}

// denied finds the action in EC2's refusal.
var denied = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)`)

// missingAction is what a policy must allow for the call: what EC2's message names, or else the call itself.
func missingAction(service, operation, message string) string {
	if m := denied.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return strings.ToLower(service) + ":" + operation
}

// deniedCodes are refusals for want of a permission.
var deniedCodes = []string{"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}

// on finds in EC2's refusal what it is about.
var on = regexp.MustCompile(`not authorized to perform: \S+ on resource: (\S+)`)

func deniedOn(message string) string {
	if m := on.FindStringSubmatch(message); m != nil {
		return m[1]
	}
	return ""
}

// hintOfDenial says what to allow; "" when nothing is missing.
func hintOfDenial(missing string) string {
	if missing == "" {
		return ""
	}
	return fmt.Sprintf("allow %s in the policy of the controller's role (docs/aws/controller.json has all that it needs); "+
		"`aws sts decode-authorization-message` shows which statement refused", missing)
}
