package netx

// Descriptors are the limits of connections for each use, so that each has its share of the file
// descriptors of the process. The zero value is no limit.
type Descriptors struct {
	Viewers    int // that play, or may
	Undecided  int // RTMP connections that neither publish nor play yet
	Publishers int // more publishers count as viewers
}

// Shares of the process's file descriptors; viewers get the rest. reservedDescriptors is for files
// that are always open or open briefly: listeners, the store, the log, webhooks, certificates.
const (
	reservedDescriptors    = 64
	shareOfRecordings      = 8  // an eighth: one file for each stream, and connections of relays
	shareOfPublishers      = 8  // as many as recordings; further publishers use the viewers' share
	shareOfUndecided       = 16 // RTMP connections that neither publish nor play yet, which takes seconds
	shareOfOperator        = 16
	minShare               = 16
	maxOperatorDescriptors = 1024
	minViewerDescriptors   = 16
	unlimitedDescriptors   = 0
)

// DivideDescriptors divides the descriptors that the process may have between the connections of the
// public and those of the operator.
func DivideDescriptors() (public, operator Descriptors) { return divideDescriptors(descriptorLimit()) }

// divideDescriptors divides n descriptors.
func divideDescriptors(n int) (public, operator Descriptors) {
	if n == unlimitedDescriptors {
		return Descriptors{}, Descriptors{}
	}
	operator.Viewers = min(max(n/shareOfOperator, minShare), maxOperatorDescriptors)
	public.Undecided = max(n/shareOfUndecided, minShare)
	public.Publishers = max(n/shareOfPublishers, minShare)
	recordings := max(n/shareOfRecordings, minShare)
	public.Viewers = max(n-reservedDescriptors-operator.Viewers-public.Undecided-public.Publishers-recordings,
		minViewerDescriptors)
	return public, operator
}
