package protocol

import "time"

// ScreenshotRequest asks for the screen of an instance that was kept with a job.
type ScreenshotRequest struct {
	Job    string `json:"job"`
	Server string `json:"server"`
}

// Reads implements [Reader].
func (ScreenshotRequest) Reads() bool { return true }

// Screenshot is what a launched instance showed on its screen when its checks had passed or failed.
type Screenshot struct {
	Instance string    `json:"instance"` // id
	At       time.Time `json:"at"`
	Image    []byte    `json:"image"` // JPEG of EC2, PNG of a local cloud
}
