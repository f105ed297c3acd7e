//! Kernel objects in frames of their own, shared by reference count: what `Arc` is elsewhere, without a heap.

use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};

use hypercall_abi::errno::XenError;
use hypercall_abi::ids::DomId;
use kernel_core::addr::{PAGE_SIZE, Pa};
use kernel_core::frame::FrameKind;

use crate::boot;

/// The object behind its count.
#[repr(C)]
struct Object<T> {
    references: AtomicU32,
    value: T,
}

/// A reference to an object in frames.
pub struct Shared<T> {
    /// Valid as long as this reference is counted.
    object: NonNull<Object<T>>,
}

// SAFETY: a `Shared` gives out `&T` on any pCPU, and may drop `T` on any: so `T` must be Send and Sync.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Pages that an object needs.
    const PAGES: u64 = (size_of::<Object<T>>() as u64).div_ceil(PAGE_SIZE);

    /// Moves `value` into frames that `owner` has to answer for.
    pub fn new(owner: DomId, value: T) -> Result<Self, XenError> {
        const { assert!(align_of::<Object<T>>() as u64 <= PAGE_SIZE) };
        let pages = u32::try_from(Self::PAGES).map_err(|_| XenError::NoMem)?;
        let at = boot::frames().alloc(owner, FrameKind::Object, pages)?;
        let object = NonNull::new(at.raw() as *mut Object<T>).ok_or(XenError::NoMem)?;
        let new = Object { references: AtomicU32::new(1), value };
        // SAFETY: the frames are ours alone since `alloc`, large enough and page-aligned, and mapped at their own
        // address like all RAM.
        unsafe { object.write(new) };
        Ok(Shared { object })
    }

    /// What is shared, to be changed by who holds the only reference.
    pub fn only(&mut self) -> Option<&mut T> {
        // Acquire: what others did with it is done, if they have let go.
        let alone = self.object().references.load(Ordering::Acquire) == 1;
        // SAFETY: as in `object`; nobody else has a reference, nor can get one while this one is borrowed.
        if alone { Some(unsafe { &mut self.object.as_mut().value }) } else { None }
    }

    fn object(&self) -> &Object<T> {
        // SAFETY: initialised in `new`; the frames live until the last reference is gone, and this is one.
        unsafe { self.object.as_ref() }
    }

    /// The end of the object, whose last reference this was. Apart, so that letting go of another one is short.
    #[cold]
    #[inline(never)]
    fn end(&mut self) {
        // SAFETY: the last reference is gone, so nobody else can reach the value, and it is dropped once.
        unsafe { self.object.drop_in_place() };
        let at = Pa::new(self.object.as_ptr() as u64);
        for page in 0..Self::PAGES {
            boot::frames().put(at.add(page * PAGE_SIZE));
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object().value
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        // Relaxed: this reference already orders everything before the new one. The count is bounded by the
        // places that can hold one, all in objects of at least a page, so it cannot reach 2^32.
        self.object().references.fetch_add(1, Ordering::Relaxed);
        Shared { object: self.object }
    }
}

impl<T> Drop for Shared<T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: what this pCPU did with the object comes before its end; acquire: so does what others did.
        if self.object().references.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            self.end();
        }
    }
}

/// A place that is empty at first, or has a reference to an object as long as it lives. To look is one load.
pub struct Place<T> {
    /// Null, or what the reference points to.
    object: AtomicPtr<Object<T>>,
    has: PhantomData<Shared<T>>,
}

impl<T> Default for Place<T> {
    fn default() -> Self {
        Place { object: AtomicPtr::new(null_mut()), has: PhantomData }
    }
}

impl<T> Place<T> {
    /// What is there.
    #[inline(always)]
    pub fn get(&self) -> Option<&T> {
        // Acquire: meets the release below, behind which the object is as its maker left it.
        let object = NonNull::new(self.object.load(Ordering::Acquire))?;
        // SAFETY: as in `Shared::object`: the reference in here is not given away before this is dropped.
        Some(&unsafe { object.as_ref() }.value)
    }

    /// Takes a reference, unless there is one.
    pub fn fill(&self, shared: Shared<T>) {
        let object = shared.object.as_ptr();
        if self.object.compare_exchange(null_mut(), object, Ordering::Release, Ordering::Relaxed).is_ok() {
            core::mem::forget(shared);
        }
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        drop(NonNull::new(*self.object.get_mut()).map(|object| Shared { object }));
    }
}
