package gpu

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// ownFolder returns an error unless the folder belongs to the user or an administrator. It
// does not check which others may write to it: what Windows makes in the user's cache
// folder takes its access list from there.
func ownFolder(path string) error { return own(path, nil) }

func own(path string, _ fs.FileInfo) error {
	described, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return err
	}
	owner, _, err := described.Owner()
	if err != nil {
		return err
	}
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return err
	}
	if owner.Equals(user.User.Sid) || owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) {
		return nil
	}
	return notOwn(path, "belongs to another user")
}

func openNonblock(path string) (*os.File, error) { return os.Open(path) }
