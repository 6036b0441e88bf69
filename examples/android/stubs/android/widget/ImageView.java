package android.widget;

public class ImageView extends android.view.View {
    public ImageView(android.content.Context context) { super(context); }
    public boolean getAdjustViewBounds() { return false; }
    public void setAdjustViewBounds(boolean adjust) {}
    public void setImageBitmap(android.graphics.Bitmap bitmap) {}
}
