package cloud

import (
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// Quotas are the limits of the account. Zero is no limit.
type Quotas struct {
	// VCPUs of all instances that are pending or running.
	VCPUs int
	// Volumes and Snapshots are numbers of things.
	Volumes, Snapshots int
	// StorageGiB is the sum of the sizes of all volumes.
	StorageGiB int64
}

// unlimited is what Service Quotas says of a limit that there is not: it has no word for that.
const unlimited = 1e6

// Value is a limit as Service Quotas gives it, by the quota's code in AWS: storage in TiB.
func (q Quotas) Value(service, code string) (float64, error) {
	var value float64
	switch service + " " + code {
	case "ec2 L-1216C47A": // Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances: all that there are here
		value = float64(q.VCPUs)
	case "ebs L-309BACF6": // Snapshots per Region
		value = float64(q.Snapshots)
	case "ebs L-7A658B76", "ebs L-D18FCD1D", "ebs L-FD252861", "ebs L-09BD8365", "ebs L-82ACEF56", "ebs L-17AF77E8", "ebs L-9CF3C2EB":
		value = float64(q.StorageGiB) / 1024 // Storage of the types gp3, gp2, io1, io2, st1, sc1 and standard; here all share one
	default:
		return 0, fault.New("NoSuchResourceException", "The quota %s of service %s does not exist.", code, service)
	}
	if value == 0 {
		value = unlimited
	}
	return value, nil
}

// The checks below look at the state as it would be, inside the Update that
// makes it so: two calls at once cannot pass together.

func (q Quotas) vcpus(st *state.State) error {
	used := 0
	for _, in := range st.Instances {
		if t, ok := instanceType(in.Type); ok && (in.Phase == state.Pending || in.Phase == state.Running) {
			used += t.VCPUs
		}
	}
	if q.VCPUs > 0 && used > q.VCPUs {
		return fault.New("VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of %d allows for the instance bucket that the specified instance type belongs to.", q.VCPUs)
	}
	return nil
}

func (q Quotas) volumes(st *state.State) error {
	var storage int64
	for _, v := range st.Volumes {
		storage += v.SizeGiB
	}
	switch {
	case q.Volumes > 0 && len(st.Volumes) > q.Volumes:
		return fault.New("VolumeLimitExceeded", "Maximum number of volumes, %d, has been reached.", q.Volumes)
	case q.StorageGiB > 0 && storage > q.StorageGiB:
		return fault.New("VolumeLimitExceeded", "You have exceeded your maximum storage limit of %d GiB in this region.", q.StorageGiB)
	}
	return nil
}

func (q Quotas) snapshots(st *state.State) error {
	if q.Snapshots > 0 && len(st.Snapshots) > q.Snapshots {
		return fault.New("SnapshotLimitExceeded", "Maximum number of snapshots, %d, has been reached.", q.Snapshots)
	}
	return nil
}
