wave "a" {
  applications = []
  after        = [wave.c]
}

wave "b" {
  applications = []
  after        = [wave.a]
}

wave "c" {
  applications = []
  after        = [wave.b]
}

wave "d" {
  applications = []
  after        = [wave.a]
}
