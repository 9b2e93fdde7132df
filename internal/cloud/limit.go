package cloud

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
)

// Limit is a quota of an account in a region.
type Limit struct {
	Service string // in Service Quotas
	Code    string
	Name    string // as Service Quotas shows it
}

// limitNames are the quotas that count instances and volumes, by code. Source: Service Quotas of AWS.
var limitNames = map[string]string{
	"L-1216C47A": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
	"L-6E869C2A": "Running On-Demand DL instances",
	"L-74FC7D96": "Running On-Demand F instances",
	"L-DB2E81BA": "Running On-Demand G and VT instances",
	"L-43DA4232": "Running On-Demand High Memory instances",
	"L-F7808C92": "Running On-Demand HPC instances",
	"L-1945791B": "Running On-Demand Inf instances",
	"L-417A185B": "Running On-Demand P instances",
	"L-2C3B7624": "Running On-Demand Trn instances",
	"L-7295265B": "Running On-Demand X instances",
	"L-7A658B76": "Storage for General Purpose SSD (gp3) volumes, in TiB",
	"L-D18FCD1D": "Storage for General Purpose SSD (gp2) volumes, in TiB",
	"L-FD252861": "Storage for Provisioned IOPS SSD (io1) volumes, in TiB",
	"L-09BD8365": "Storage for Provisioned IOPS SSD (io2) volumes, in TiB",
	"L-82ACEF56": "Storage for Throughput Optimized HDD (st1) volumes, in TiB",
	"L-17AF77E8": "Storage for Cold HDD (sc1) volumes, in TiB",
	"L-9CF3C2EB": "Storage for Magnetic (standard) volumes, in TiB",
}

// coreLimits count the cores of instances by the letters that their type begins with.
var coreLimits = map[string]string{
	"a": "L-1216C47A", "c": "L-1216C47A", "d": "L-1216C47A", "h": "L-1216C47A", "i": "L-1216C47A", "im": "L-1216C47A", "is": "L-1216C47A", "m": "L-1216C47A",
	"r": "L-1216C47A", "t": "L-1216C47A", "z": "L-1216C47A", "dl": "L-6E869C2A", "f": "L-74FC7D96", "g": "L-DB2E81BA", "gr": "L-DB2E81BA", "vt": "L-DB2E81BA",
	"u": "L-43DA4232", "hpc": "L-F7808C92", "inf": "L-1945791B", "p": "L-417A185B", "trn": "L-2C3B7624", "x": "L-7295265B",
}

var storageLimits = map[string]string{
	"gp3": "L-7A658B76", "gp2": "L-D18FCD1D", "io1": "L-FD252861", "io2": "L-09BD8365", "st1": "L-82ACEF56", "sc1": "L-17AF77E8", "standard": "L-9CF3C2EB",
}

// CoreLimit is the quota that counts the vCPUs of a type of instance that run on demand. Of a type that is not known, it has no code.
func CoreLimit(instanceType string) Limit {
	letters := instanceType[:max(0, strings.IndexFunc(instanceType, func(r rune) bool { return r < 'a' || r > 'z' }))]
	code := coreLimits[letters]
	return Limit{"ec2", code, limitNames[code]}
}

// StorageLimit is the quota that counts the TiB of a type of volume. Of a type that is not known, it has no code.
func StorageLimit(volumeType string) Limit {
	code := storageLimits[volumeType]
	return Limit{"ebs", code, limitNames[code]}
}

// SnapshotLimit is the quota that counts snapshots.
var SnapshotLimit = Limit{"ebs", "L-309BACF6", "Snapshots per Region"}

// LimitOf returns how much a quota is: the account's own, or else AWS's default.
func (c *Client) LimitOf(ctx context.Context, l Limit) (float64, error) {
	out, err := c.servicequotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String(l.Service), QuotaCode: aws.String(l.Code)})
	if code(err) == "NoSuchResourceException" { // some have no value of the account's own
		var common *servicequotas.GetAWSDefaultServiceQuotaOutput
		common, err = c.servicequotas.GetAWSDefaultServiceQuota(ctx, &servicequotas.GetAWSDefaultServiceQuotaInput{ServiceCode: aws.String(l.Service), QuotaCode: aws.String(l.Code)})
		if err == nil {
			return aws.ToFloat64(common.Quota.Value), nil
		}
	}
	if err != nil {
		return 0, fail(err, "ask for the quota %q", l.Name)
	}
	return aws.ToFloat64(out.Quota.Value), nil
}

// Used is what an account has in a region, whoever made it.
type Used struct {
	Cores   map[string]int   // of instances that count, by the code of [CoreLimit]
	Storage map[string]int64 // bytes of volumes, by the code of [StorageLimit]
}

// Used looks at all instances and volumes.
func (c *Client) Used(ctx context.Context) (Used, error) {
	used := Used{Cores: map[string]int{}, Storage: map[string]int64{}}
	counted := []types.Filter{filter("instance-state-name", InstancePending, InstanceRunning)}
	for pages := ec2.NewDescribeInstancesPaginator(c.ec2, &ec2.DescribeInstancesInput{Filters: counted}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return used, fail(err, "count the instances of the account")
		}
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				if o := i.CpuOptions; o != nil && i.InstanceLifecycle == "" { // spot instances have a quota of their own
					used.Cores[CoreLimit(string(i.InstanceType)).Code] += int(aws.ToInt32(o.CoreCount) * aws.ToInt32(o.ThreadsPerCore))
				}
			}
		}
	}
	volumes, err := c.volumes(ctx, &ec2.DescribeVolumesInput{})
	for _, v := range volumes {
		used.Storage[StorageLimit(v.Type).Code] += v.SizeBytes
	}
	return used, fail(err, "count the volumes of the account")
}
