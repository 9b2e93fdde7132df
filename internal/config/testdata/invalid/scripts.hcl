replication "default" {}

launch "default" {
  test_identity = "fresh"

  script "join" {
    content = "echo joined"
  }
  script "join" {
    phase   = "before"
    content = "#!/bin/sh\n"
  }
  script "../x" {
  }
  script "slow" {
    phase      = "after-conversion"
    timeout    = "2h"
    on_failure = "ignore"
    content    = "#!/bin/sh\n"
  }
  script "late" {
    on_failure = "continue"
    content    = "#!/bin/sh\n"
  }
  script "large" {
    content = "#!/bin/sh\n${join("", [for i in range(700) : "0123456789"])}"
  }
}
