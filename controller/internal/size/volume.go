package size

import "fmt"

// Sizes and figures of EBS's volume types, and what they mean for staging.
const (
	mib, tib = 1 << 20, 1 << 40

	// smallDisk is MGN's border: magnetic up to there, st1 above.
	smallDisk = 500 * gib
	// largestHDD is the largest volume of type st1.
	largestHDD = 16 * tib

	// A replica is written in granules of 16 KiB, wherever the source writes: what counts is how many of those a volume takes.
	granule = 16 << 10
	// magneticWrites is what a magnetic volume takes per second, on average.
	magneticWrites = 100
	// throughputWrites is what an st1 volume takes per second and TiB: 40 MiB/s, of which a small write costs a whole MiB.
	throughputWrites = 40
)

// Volume returns the type of the staging volume for a disk: MGN's cheap ones, magnetic up to 500 GiB and st1 above, as long as they
// keep up with what the source writes (bytes per second), and gp3 otherwise.
func Volume(sizeBytes, writeRate int64) string {
	if sizeBytes > largestHDD || writeRate > sustained(sizeBytes) {
		return "gp3"
	}
	return cheap(sizeBytes)
}

func cheap(sizeBytes int64) string {
	if sizeBytes <= smallDisk {
		return "standard"
	}
	return "st1"
}

// sustained is the rate that the cheap type of this size keeps up with.
func sustained(sizeBytes int64) int64 {
	if sizeBytes <= smallDisk {
		return magneticWrites * granule
	}
	return int64(float64(sizeBytes) / tib * throughputWrites * granule)
}

// VolumeAdvice says what another type of a staging volume would do, or "". The rate goes up and down: what was chosen is
// left alone until it is twice what the cheap type takes, or half.
func VolumeAdvice(volume, disk, current string, sizeBytes, writeRate int64) string {
	var why string
	better := Volume(sizeBytes, writeRate)
	switch {
	case current == "" || better == current:
		return ""
	case current == cheap(sizeBytes) && writeRate > 2*sustained(sizeBytes):
		why = "which it does not keep up with for long"
	case current == "gp3" && writeRate < sustained(sizeBytes)/2:
		why = "for which the cheaper type would do"
	default:
		return ""
	}
	return fmt.Sprintf("volume %s of %s is %s, and %s is written there, %s; it can be changed in the cloud at any time: aws ec2 modify-volume --volume-id %s --volume-type %s",
		volume, disk, current, Rate(writeRate), why, volume, better)
}

// Rate is a number of bytes per second, for people.
func Rate(bytes int64) string {
	if bytes < mib {
		return fmt.Sprintf("%d KiB/s", bytes>>10)
	}
	return fmt.Sprintf("%.1f MiB/s", float64(bytes)/mib)
}
