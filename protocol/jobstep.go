package protocol

// Names of the steps of a job's servers ([JobStep.Name]) that others read than the runner of jobs.
const (
	JobStepFence     = "fence"
	JobStepPoint     = "point"
	JobStepConvert   = "convert"
	JobStepLaunch    = "launch"
	JobStepActions   = "actions"
	JobStepCheck     = "check"
	JobStepBoot      = "boot"      // of a job that only finds out whether a copy boots
	JobStepUnfence   = "unfence"   // the source goes on after all
	JobStepTerminate = "terminate" // in a rehearsal: when all of its servers are through
)

// Keys of [JobServer.Data] that others read than the runner of jobs.
const (
	JobDataPoint              = "point"               // id
	JobDataChosen             = "chosen"              // an operator chose the point: it is not this job's
	JobDataConvertedSnapshots = "converted_snapshots" // in disk order, separated by commas; empty for a disk that is as it was
	JobDataImage              = "image"
	JobDataInstance           = "instance"
	JobDataAddress            = "address"
	JobDataScreenshot         = "screenshot" // when one was kept
)
