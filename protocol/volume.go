package protocol

// VolumeSettings is how the cloud makes the volumes of a replication block. Zero values are the cloud's own defaults.
type VolumeSettings struct {
	KMSKey     string `json:"kms_key,omitempty"`         // id, alias or ARN; encrypts staging volumes, and so all that is made of them
	IOPS       int    `json:"iops,omitempty"`            // of staging volumes
	Throughput int    `json:"throughput_mibs,omitempty"` // of staging volumes, MiB/s
	InitRate   int    `json:"init_rate_mibs,omitempty"`  // at which a clone gets its blocks from its snapshot, MiB/s; 0: as they are asked for
}
