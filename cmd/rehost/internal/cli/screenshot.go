package cli

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"rehost/protocol"
)

func newJobScreenshot(env Env, c *client) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "screenshot ID SERVER", Short: "Save what a launched server showed on its screen when its checks had passed or failed",
		Long:    "Save the screen that was kept with a job, as a file. It is kept for 90 days; an instance without a display has none.",
		Example: "  rehost job screenshot test-20260301-120000-0a1b2c web-1\n  rehost job screenshot test-20260301-120000-0a1b2c web-1 --out web-1.png", Args: two("ID", "SERVER"),
	}
	cmd.Flags().StringVar(&path, "out", "", "`file` to write, instead of SERVER-ID with the image's ending; an existing one is replaced")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		shot, err := ask[protocol.ScreenshotRequest, protocol.Screenshot](cmd.Context(), c, protocol.VerbScreenshot, protocol.ScreenshotRequest{Job: args[0], Server: args[1]})
		if err != nil {
			return err
		}
		kind := http.DetectContentType(shot.Image)
		_, ending, _ := strings.Cut(kind, "/")
		to := cmp.Or(path, args[1]+"-"+args[0]+"."+ending)
		if err := os.WriteFile(to, shot.Image, 0o600); err != nil { // it may show what is nobody else's business
			return fmt.Errorf("save the screen: %w", err)
		}
		var p printer
		p.line("wrote %s: %s, %d bytes, of %s at %s", to, kind, len(shot.Image), shot.Instance, shot.At.Local().Format("2006-01-02 15:04:05"))
		return p.flush(env.Stdout)
	}
	return cmd
}
