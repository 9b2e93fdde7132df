package broker

import "github.com/hashicorp/go-hclog"

// serverLog gives the server's messages to our logger. The server's notices are our debug:
// a healthy bus has nothing to say to an operator.
type serverLog struct{ log hclog.Logger }

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("bus notice", "text", hclog.Fmt(format, v...))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn("bus warning", "text", hclog.Fmt(format, v...))
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.log.Error("bus fatal", "text", hclog.Fmt(format, v...))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Warn("bus error", "text", hclog.Fmt(format, v...))
}

func (l *serverLog) Debugf(format string, v ...any) {
	l.log.Trace("bus debug", "text", hclog.Fmt(format, v...))
}

func (l *serverLog) Tracef(format string, v ...any) {
	l.log.Trace("bus trace", "text", hclog.Fmt(format, v...))
}
