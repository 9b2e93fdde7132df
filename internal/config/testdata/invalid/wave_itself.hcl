wave "a" {
  applications = []
  after        = [wave.a]
}
