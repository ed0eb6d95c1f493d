// Command console measures how fast the pages of the control role are where there is much to show: a
// million companies and ten thousand apps, most of which make non-compliant calls. It starts control,
// a login service, two regions and a gateway as processes, fills their stores and the directory, signs
// an operator in, and asks for each page many times.
//
// The names that it writes are indexed by the login service itself, as those of an older version
// would be; how long that takes is told as well.
package main
